"""A real vLLM server on the CPU, which tests and benchmarks start, kill and look into.

    with VLLMServer(model, log) as server:
        AsyncOpenAI(base_url=server.base_url, api_key="none")

It runs in its own environment, `.venv-vllm`, which `make test-vllm` makes.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

CHECKOUT = Path(__file__).parents[2]
PYTHON = CHECKOUT / ".venv-vllm" / "bin" / "python"
MODEL = "smollm2"
"""The name under which the model is served."""
MAX_MODEL_LEN = 2048
MAX_NUM_SEQS = 32
START_LIMIT = 300.0
"""Seconds. A start takes 15 to 60."""
_STOP_LIMIT = 15.0
_LOG_TAIL = 40

# Eager, and below no dynamo: torch would compile the model, and the first request for logprobs a
# part of the sampler, which takes time and a C++ compiler. bfloat16: "auto" takes float16.
_FLAGS = [
    *("--host", "127.0.0.1", "--served-model-name", MODEL, "--dtype", "bfloat16"),
    *("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", str(MAX_NUM_SEQS)),
    *("--enforce-eager", "--enable-prompt-tokens-details"),
]
# Threads that spin while they wait are 10 times slower on a machine with other work.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "TORCHDYNAMO_DISABLE": "1",
}
_UNREACHABLE = (urllib.error.URLError, ConnectionError, TimeoutError)
# It waits for its input to end, which also happens when we are killed, and then kills the group.
_WATCHER = 'read -r _; kill -KILL -- "-$0" 2>/dev/null; rm -rf "$1"'


class VLLMServer:
    """One server on one port. Its processes are a group of their own and never outlive ours."""

    def __init__(self, model: Path, log: Path) -> None:
        """``model``: folder of the model. ``log``: where all starts write what they say."""
        self._model = model
        self._log = log
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        # A killed server leaves its sockets behind; here they go with the folder.
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """Where the OpenAI API is."""
        return f"{self.url}/v1"

    @property
    def group(self) -> int:
        """The id of the process group in which all of it runs."""
        if self._process is None:
            raise RuntimeError("vLLM was not started")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers; a start that failed leaves nothing behind."""
        self.launch()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start it without waiting."""
        if not PYTHON.exists():
            raise RuntimeError(f"no vLLM in {PYTHON.parents[1]}: run `make test-vllm`")
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-")
        command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(self._model), "--port", str(self._port), *_FLAGS]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=os.environ | _ENVIRONMENT | {"VLLM_RPC_BASE_PATH": self._folder.name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(
            ["bash", "-c", _WATCHER, str(self._process.pid), self._folder.name],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until_ready(self, limit: float = START_LIMIT) -> None:
        """Return when /health answers; ``limit`` in seconds."""
        self.wait_for(self._is_healthy, limit=limit, what="vLLM answers")

    def wait_for(
        self, condition: Callable[[], bool], *, limit: float, what: str, pause: float = 0.1
    ) -> None:
        """Return when the condition holds. A dead server or a passed limit shows the log's end.

        ``limit`` and ``pause`` in seconds. While the server cannot be asked, nothing holds.
        """
        end = time.monotonic() + limit
        while True:
            self.check()
            with contextlib.suppress(*_UNREACHABLE):
                if condition():
                    return
            if time.monotonic() > end:
                raise TimeoutError(f"not within {limit:.0f} s: {what}\n{self.log_tail()}")
            time.sleep(pause)

    def check(self) -> None:
        """Raise with the end of the log unless the server runs."""
        code = None if self._process is None else self._process.poll()
        if self._process is None or code is not None:
            raise RuntimeError(f"vLLM has ended (exit code {code})\n{self.log_tail()}")

    def kill(self) -> None:
        """End all its processes at once, as kill -9 does."""
        if self._watcher is not None:
            self._watcher.communicate()
        if self._process is not None:
            self._process.wait()
        if self._folder is not None:
            self._folder.cleanup()
        self._process = self._watcher = self._folder = None

    def stop(self) -> None:
        """Ask it to end, which clears its shared memory, then kill what is left."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_LIMIT)
        self.kill()

    def restart(self) -> None:
        """Kill -9, then start again on the same port. Its metrics begin at 0 again."""
        self.kill()
        self.start()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over the rows that have these labels; 0 where there is none."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as reply:
            rows = re.findall(rf"^{re.escape(name)}\{{(.*)\}} (\S+)$", reply.read().decode(), re.M)
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        return sum(float(value) for found, value in rows if wanted <= set(found.split(",")))

    def num_running(self) -> float:
        """Samples that are being generated or wait for it."""
        return self.metric("vllm:num_requests_running") + self.metric("vllm:num_requests_waiting")

    def num_finished(self) -> float:
        """Samples generated to their end since the start; those that were given up do not count."""
        finished = self.metric("vllm:request_success_total")
        return finished - self.metric("vllm:request_success_total", finished_reason="abort")

    def log_tail(self) -> str:
        """The last lines that the server wrote."""
        if not self._log.exists():
            return "(no log)"
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(["the end of its log:", *lines[-_LOG_TAIL:]])

    def _is_healthy(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/health", timeout=10) as reply:
            return bool(reply.status == 200)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
