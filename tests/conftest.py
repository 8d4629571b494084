"""Options and fixtures of all tests: real data by --data, no skips by --no-skips, no network."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports transformers or datasets: no test may reach for the hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("prm")
    group.addoption("--data", metavar="DIR", help="folder with the real data sets (docs/data.md)")
    group.addoption(
        "--no-skips", action="store_true", help="a skipped test is a failure (make and CI use this)"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    # An expected failure is reported as a skip too, but it did run.
    if not hasattr(report, "wasxfail"):
        _refuse_skip(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _refuse_skip(collector.config, report)
    return report


def _refuse_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and config.getoption("--no-skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and --no-skips forbids it: {reason}"


@pytest.fixture(autouse=True)
def only_local_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that leaves this machine fails, whatever library tried."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in LOCAL_HOSTS:
            raise OSError(f"a test tried to reach {address}: tests do not use the network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def data_dir(request: pytest.FixtureRequest) -> Path:
    """The folder of real data sets; only tests marked `real` ask for it."""
    folder = request.config.getoption("--data")
    if folder is None:
        pytest.fail("this test reads real data: pass --data DIR (docs/data.md says how to get it)")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with the character tokenizer and two layers of random weights."""
    # Here and not above: only the tests that ask for a model pay for importing one.
    from tests.tiny import tiny_model_folder

    return tiny_model_folder(tmp_path_factory.mktemp("tiny-model"))
