"""One vLLM server for all tests of this folder: a start takes up to a minute."""

from collections.abc import Iterator

import pytest

from prm.generation.embedded import embedded_model
from tests.vllm.server import VLLMServer


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    """The server; stopped at the end, also of a test run that is interrupted."""
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with VLLMServer(embedded_model(), log) as server:
        yield server


@pytest.fixture
def server(running_server: VLLMServer) -> Iterator[VLLMServer]:
    """The server, idle; a test after which it no longer runs has failed."""
    running_server.wait_for(lambda: running_server.num_running() == 0, limit=60, what="it is idle")
    yield running_server
    running_server.check()
