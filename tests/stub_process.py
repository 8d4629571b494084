"""The stub server as a process of its own, which a test can kill and start again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 20.0


class RunningStub:
    """A running `python -m tests.stub_server`; ``options`` are its options of the command line."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self._folder, self._options = folder, options
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL that an OpenAI client wants."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start it, on the same port as before if there was one, and wait until it is healthy."""
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.stub_server", "--port", str(self.port)]
        command += ["--port-file", str(port_file), "--with-parent", *_flags(self._options)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not port_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the stub did not start: exit code {self.process.returncode}")
            time.sleep(0.02)
        self.port = int(port_file.read_text(encoding="utf-8"))
        self._get("/health")

    def kill(self) -> None:
        """End it at once, as a lost machine does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def restart(self) -> None:
        """Kill it and start it again on the same port; its counts begin at 0."""
        self.kill()
        self.start()

    def counts(self) -> dict[str, int]:
        """What `StubServer.counts` says in that process."""
        return dict(orjson.loads(self._get("/stub/counts")))

    def requests(self) -> list[dict[str, Any]]:
        """What `StubServer.requests` says in that process; needs ``record=True``."""
        return list(orjson.loads(self._get("/stub/requests"))["requests"])

    def _get(self, path: str) -> bytes:
        # A proxy of the environment has no business here.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return bytes(response.read())


@contextlib.contextmanager
def running_stub(**options: Any) -> Iterator[RunningStub]:
    """A stub server in a process of its own while the block runs: ``latency_ms=50`` and so on."""
    with tempfile.TemporaryDirectory() as folder:
        stub = RunningStub(Path(folder), options)
        try:
            stub.start()
            yield stub
        finally:
            stub.kill()


def _flags(options: dict[str, Any]) -> list[str]:
    flags = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            flags += [flag] if value else []
        else:
            flags += [flag, str(value)]
    return flags
