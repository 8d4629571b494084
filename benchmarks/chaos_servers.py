"""The servers of `benchmarks.chaos`: stubs that misbehave, or vLLM with such a stub beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from prm.generation.embedded import embedded_model
from tests.stub_server import KINDS, RunningStub
from tests.vllm.server import MODEL, VLLMServer

# Without usage the tokens are a guess of ours: the record is rightly another one.
SPOILING = tuple(kind for kind in KINDS if kind != "missing_usage")
# An answer that comes late, or under another content type, is an answer.
FATAL = tuple(k for k in SPOILING if k not in ("timeout", "slow_first_byte", "wrong_content_type"))
SERVER_PAUSE = (0.3, 1.5)  # seconds that a killed server is away


class Servers(Protocol):
    """What is sampled from, and killed."""

    model: str
    num_kills: int

    @property
    def endpoints(self) -> list[dict[str, Any]]:
        """As in the settings of the job."""
        ...

    def kill_one(self, rng: random.Random) -> None:
        """Kill one, and start it again on the same port after a while."""
        ...

    def look(self) -> list[dict[str, Any]]:
        """The bodies of the requests that were recorded since the last look."""
        ...

    def num_requests(self) -> int:
        """Requests to the stubs so far."""
        ...

    def faults(self) -> Counter[str]:
        """The faults so far, by kind."""
        ...

    def num_answered(self) -> int:
        """Samples that were answered whole, whoever was there to take them."""
        ...


@dataclasses.dataclass
class Stub:
    """A stub that draws faults; what it saw is kept when it is killed."""

    running: RunningStub
    options: dict[str, Any]
    endpoint: dict[str, Any]
    _num_seen: int = 0
    _found: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    _past: Counter[str] = dataclasses.field(default_factory=Counter)

    def look(self) -> list[dict[str, Any]]:
        """The bodies since the last look."""
        self._see()
        found, self._found = self._found, []
        return found

    def counts(self) -> Counter[str]:
        """Of all its lives."""
        return self._past + Counter(self.running.counts())

    def kill(self, rng: random.Random) -> None:
        """Kill it and start it again, with other faults ahead."""
        self._see()
        self._past += Counter(self.running.counts())
        self.running.kill()
        time.sleep(rng.uniform(*SERVER_PAUSE))
        self.options["fault_seed"] = rng.randrange(2**31)
        self.running.start()
        self._num_seen = 0

    def _see(self) -> None:
        bodies = [one["body"] for one in self.running.requests()]
        self._found += bodies[self._num_seen :]
        self._num_seen = len(bodies)


class StubServers:
    """Two stubs."""

    model = "stub"

    def __init__(self, stubs: list[Stub]) -> None:
        """They run already."""
        self._stubs = stubs
        self.num_kills = 0

    @property
    def endpoints(self) -> list[dict[str, Any]]:
        """Both."""
        return [{"url": stub.running.url, **stub.endpoint} for stub in self._stubs]

    def kill_one(self, rng: random.Random) -> None:
        """Either of them."""
        self.num_kills += 1
        rng.choice(self._stubs).kill(rng)

    def look(self) -> list[dict[str, Any]]:
        """What either was asked."""
        return [body for stub in self._stubs for body in stub.look()]

    def num_requests(self) -> int:
        """To both, in all their lives."""
        return sum(stub.counts()["requests"] for stub in self._stubs)

    def faults(self) -> Counter[str]:
        """Of both, in all their lives."""
        counts: Counter[str] = sum((stub.counts() for stub in self._stubs), Counter())
        return Counter({k.removeprefix("fault:"): n for k, n in counts.items() if "fault:" in k})

    def num_answered(self) -> int:
        """By both, in all their lives."""
        return sum(stub.counts()["answered"] for stub in self._stubs)


class VLLMServers(StubServers):
    """vLLM, which gives all answers, and a stub that gives none; vLLM is the one that is killed."""

    model = MODEL

    def __init__(self, vllm: VLLMServer, stub: Stub) -> None:
        """They run already."""
        super().__init__([stub])
        self._vllm = vllm
        self._num_finished = 0

    @property
    def endpoints(self) -> list[dict[str, Any]]:
        """Both."""
        return [{"url": self._vllm.base_url, "concurrency": 16}, *super().endpoints]

    def kill_one(self, rng: random.Random) -> None:  # noqa: ARG002
        """Takes as long as vLLM takes to start."""
        self.num_kills += 1
        self._num_finished += int(self._vllm.num_finished())
        self._vllm.restart()

    def num_answered(self) -> int:
        """By vLLM, in all its lives; the stub answers nothing."""
        return self._num_finished + int(self._vllm.num_finished())


@contextlib.contextmanager
def stub_servers(folder: Path, *, fault_rate: float) -> Iterator[StubServers]:
    """Two stubs that misbehave at this rate, in every way that leaves the answers as they are."""
    with contextlib.ExitStack() as stack:
        endpoint = {"concurrency": 24}
        stubs = [
            _start(stack, folder / f"stub-{seed}", endpoint, fault_rate, seed, faults=SPOILING)
            for seed in range(2)
        ]
        yield StubServers(stubs)


@contextlib.contextmanager
def vllm_servers(folder: Path) -> Iterator[VLLMServers]:
    """A vLLM on the CPU, and a stub under the same model's name that fails in every way."""
    with contextlib.ExitStack() as stack:
        # It is soon left to rest; each start of the job asks it so many requests before that.
        stub = _start(
            stack, folder / "stub", {"concurrency": 12}, 1.0, 0, faults=FATAL, model=MODEL
        )
        vllm = stack.enter_context(VLLMServer(embedded_model(), folder / "vllm.log"))
        yield VLLMServers(vllm, stub)


def _start(
    stack: contextlib.ExitStack,
    folder: Path,
    endpoint: dict[str, Any],
    fault_rate: float,
    seed: int,
    *,
    faults: tuple[str, ...],
    model: str = "stub",
) -> Stub:
    folder.mkdir()
    options = {"answer": "arithmetic", "latency_ms": 100, "record": True, "model": model}
    options |= {"faults": ",".join(faults), "fault_rate": fault_rate, "fault_seed": seed}
    running = RunningStub(folder, options)
    stack.callback(running.kill)
    running.start()
    return Stub(running, options, endpoint)
