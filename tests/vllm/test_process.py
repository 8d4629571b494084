"""The server of these tests as a process: it starts, ends and is killed as a whole."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prm.generation.embedded import embedded_model
from tests.vllm.server import CHECKOUT, VLLMServer

LAUNCH = """
import sys, time
from pathlib import Path
from tests.vllm.server import VLLMServer
server = VLLMServer(Path(sys.argv[1]), Path(sys.argv[2]))
server.launch()
print(server.group, flush=True)
time.sleep(600)
"""


def members(group: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the command, which is in brackets: state, parent, group.
            state, _, owner = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(owner) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def ended_within(group: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while members(group):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LAUNCH, str(embedded_model()), str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        group = int(starter.stdout.readline())
        assert members(group)
        starter.send_signal(signal.SIGKILL)
    assert ended_within(group, 10)


def test_a_start_that_failed_shows_the_end_of_the_log(tmp_path: Path) -> None:
    server = VLLMServer(tmp_path / "no-model", tmp_path / "log")
    with pytest.raises(RuntimeError, match="the end of its log:\n(.|\n)*no-model"):
        server.start()
    assert (tmp_path / "log").stat().st_size > 0
