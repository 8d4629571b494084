import io
import json
import re
import struct
import time

import pytest
from rich.console import Console
from wandb.proto.wandb_internal_pb2 import Record

from data_gen import sampling_progress
from data_gen.sampling_progress import SamplingProgress, _clock
from prm.ledger import Ledger
from prm.store import read_manifests
from tests.sample_setup import num_kept, run_job, start, sums, threaded_stub, words

NUM = 10
PRICED = {"price": "dear", "prices": {"dear": {"prompt": 0, "generated": 10_000}}}


@pytest.fixture
def problems(tmp_path):
    return sums(tmp_path / "problems", NUM)


@pytest.fixture
def often(monkeypatch):
    """A line every tenth of a second."""
    monkeypatch.setattr(sampling_progress, "_LINE_SECONDS", 0.1)


def progress_lines(output):
    return [line for line in output.splitlines() if re.match(r"sample: \d+/\d+, ", line)]


@pytest.mark.usefixtures("often")
def test_lines_on_a_pipe_tell_rate_tokens_cost_time_and_faults(problems, tmp_path, capsys):
    kinds = ["500", "broken_json", "reset"]
    with threaded_stub(answer="arithmetic", latency_ms=60, faults=kinds) as stub:
        endpoints = [{"url": stub.url, "concurrency": 4}]
        run_job(problems, tmp_path / "out", servers=PRICED | {"endpoints": endpoints})
    lines = progress_lines(capsys.readouterr().out)
    assert len(lines) >= 4
    number = r"\d[\d,.]*"
    whole = re.compile(
        rf"sample: (\d+)/40, {number} samples/s, {number} tokens/s, \${number}, \d+:\d\d left, "
        rf"in flight [1-4]; faults: .*1 server_error"
    )
    middle = [match for line in lines if (match := whole.match(line))]
    assert len(middle) >= 2
    written = [int(match[1]) for match in middle]
    assert written == sorted(written)
    assert written[0] < written[-1] < 40
    assert lines[-1].startswith("sample: 40/40, ")
    # 16 tokens a sample at a cent each, and what the faults may have cost.
    dollars = float(re.search(r", \$([\d.]+), in flight 0; faults: ", lines[-1])[1])
    assert 6.40 < dollars < 6.60
    assert "left" not in lines[-1]


def test_of_a_short_run_there_is_one_line_at_the_end(problems, tmp_path, capsys):
    with threaded_stub(answer="arithmetic") as stub:
        run_job(problems, tmp_path / "out", stub)
    [line] = progress_lines(capsys.readouterr().out)
    assert "faults" not in line
    assert "$" not in line


@pytest.mark.usefixtures("often")
def test_a_server_that_rests_is_named_with_its_reason(problems, tmp_path, capsys):
    def faults(number, _body):
        return "503" if 4 <= number < 12 else None

    with threaded_stub(answer="arithmetic", latency_ms=5, faults=faults) as stub:
        run_job(problems, tmp_path / "out", stub, servers={"tries": 99})
    lines = progress_lines(capsys.readouterr().out)
    resting = rf"faults: \d server_error; 127.0.0.1:{stub.port} resting \(.*HTTP 503"
    assert any(re.search(resting, line) for line in lines)
    assert "resting" not in lines[-1]


def test_on_a_terminal_there_is_a_bar_with_the_line_under_it(problems, tmp_path, monkeypatch):
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(sampling_progress, "console", screen)
    monkeypatch.setattr(sampling_progress, "_SCREEN_SECONDS", 0.05)
    with threaded_stub(answer="arithmetic", latency_ms=50) as stub:
        endpoints = [{"url": stub.url, "concurrency": 4}]
        run_job(problems, tmp_path / "out", servers=PRICED | {"endpoints": endpoints})
    shown = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", screen.file.getvalue())
    found = re.findall(r"sample \S+ *(\d+)/40\s+(\d\S* samples/s.*in flight 4)", shown)
    assert len(found) >= 2
    assert int(found[0][0]) < int(found[-1][0])


def test_a_resumed_run_counts_what_was_there(problems, tmp_path, capsys):
    with threaded_stub(answer="arithmetic") as stub:
        run_job(problems, tmp_path / "out", stub, sampling={"n": 2})
        run_job(problems, tmp_path / "out", stub, remake=True)
    last = progress_lines(capsys.readouterr().out)[-1]
    assert last.startswith("sample: 40/40, ")
    assert last.endswith("in flight 0, 20 kept from before")


def test_what_is_set_aside_is_shown(problems, tmp_path, capsys):
    with threaded_stub(answer="arithmetic", poison="Calculate 4 ") as stub:
        run_job(problems, tmp_path / "out", stub, servers={"tries": 1})
    assert progress_lines(capsys.readouterr().out)[-1].endswith("; 4 set aside")


@pytest.fixture
def at(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def set_to(seconds):
        now[0] = 100.0 + seconds

    return set_to


def test_the_facts_of_a_model_in_this_process(at):
    one = SamplingProgress(100, done=20)
    assert one.facts()["seconds_left"] == 0
    at(8)
    one.wrote(16, Ledger(prompt_tokens=50, generated_tokens=800))
    one.wrote(24, Ledger(generated_tokens=1200))
    assert one.facts() == {
        "samples_written": 60,
        "samples_per_second": 5.0,
        "tokens_per_second": 250.0,
        "generated_tokens": 2000,
        "dollars": 0.0,
        "seconds_left": 8.0,
    }
    assert one.line() == "5.0 samples/s, 250 tokens/s, 0:08 left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (200, "3:20"),
        (3600, "1:00:00"),
        (9e4, "25:00:00"),
    ],
)
def test_time_left_reads_as_a_clock(seconds, text):
    assert _clock(seconds) == text


def records_of(path):
    """What wandb has written: a header of 7 bytes, then records as LevelDB's log has them."""
    raw, at, whole = path.read_bytes(), 7, b""
    assert raw[:4] == b":W&B"
    while at + 7 <= len(raw):
        if 0x8000 - at % 0x8000 < 7:
            at += 0x8000 - at % 0x8000
        _, length, kind = struct.unpack_from("<IHB", raw, at)
        whole += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


@pytest.mark.usefixtures("often")
def test_wandb_gets_the_same_facts(problems, tmp_path, monkeypatch):
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    with threaded_stub(answer="arithmetic", latency_ms=30, faults=["500"]) as stub:
        endpoints = [{"url": stub.url, "concurrency": 4}]
        servers = PRICED | {"endpoints": endpoints}
        run_job(problems, tmp_path / "out", servers=servers, wandb_project="our-project")
    [path] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records = list(records_of(path))
    [made] = [one.run for one in records if one.HasField("run")][:1]
    assert (made.project, made.job_type) == ("our-project", "sample")
    assert {"strategies", "sampling", "generator"} <= {one.key for one in made.config.update}
    rows = [
        {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in one.history.item
        }
        for one in records
        if one.HasField("history")
    ]
    assert len(rows) >= 3
    last = rows[-1]
    [manifest] = read_manifests(tmp_path / "out")
    assert last["samples_written"] == last["replies"] == num_kept(tmp_path / "out") == NUM * 4
    assert last["generated_tokens"] == manifest["ledger"]["generated_tokens"]
    assert last["dollars"] == pytest.approx(manifest["ledger"]["dollars"])
    assert (last["faults"], last["faults/server_error"]) == (1, 1)
    assert (last["set_aside"], last["loops"], last["from_store"], last["in_flight"]) == (0, 0, 0, 0)
    assert last["samples_per_second"] > 0 < last["tokens_per_second"]
    assert rows[1]["seconds_left"] > last["seconds_left"] == 0


def test_a_pipe_has_the_lines_while_the_job_runs(problems, tmp_path):
    code = (
        "import sys; from data_gen import sample, sampling_progress as progress; "
        "progress._LINE_SECONDS = 0.1; sample.main(sys.argv[1:])"
    )
    with threaded_stub(answer="arithmetic", latency_ms=100) as stub:
        endpoints = [{"url": stub.url, "concurrency": 2}]
        command = words(problems, tmp_path / "out", servers={"endpoints": endpoints})
        with start(command, code=code) as process:
            first = process.stdout.readline()
            second = process.stdout.readline()
            assert process.poll() is None
            process.kill()
    assert first == "sample: 40 of 40 samples to do\n"
    assert re.match(r"sample: \d+/40, .*samples/s", second)
