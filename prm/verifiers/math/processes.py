"""Start worker processes as copies of a warm one, and without the caller's main module.

The standard library's fork server does nearly all of it: it is a fresh process (no CUDA, no
threads, nothing of the caller's), it imports `PRELOAD` once, and each worker is a fork of it, ready
in a few milliseconds. Two things differ here. The server is our own, so that nobody else's
settings are touched. And a worker does not import the caller's main module, which it has no use
for: a script without ``if __name__ == "__main__"`` would run again in each worker.
"""

from __future__ import annotations

import os
import types
from multiprocessing import context, forkserver, popen_forkserver, process, spawn
from typing import Any

PRELOAD = ["prm.verifiers.math.remote", "prm.verifiers.math.warm"]
_servers: dict[int, forkserver.ForkServer] = {}


def _server() -> forkserver.ForkServer:
    """This process's fork server; a forked copy of this process needs another."""
    if os.getpid() not in _servers:
        server = forkserver.ForkServer()
        server.set_forkserver_preload(PRELOAD)
        _servers[os.getpid()] = server
    return _servers[os.getpid()]


def _preparation_without_main(name: str) -> dict[str, Any]:
    data = dict(spawn.get_preparation_data(name))
    for key in ("init_main_from_name", "init_main_from_path"):
        data.pop(key, None)
    return data


class _Popen(popen_forkserver.Popen):
    """The standard launch, asking our server, with our preparation."""

    _launch = types.FunctionType(
        vars(popen_forkserver.Popen)["_launch"].__code__,
        {
            **vars(popen_forkserver),
            "spawn": types.SimpleNamespace(get_preparation_data=_preparation_without_main),
            "forkserver": types.SimpleNamespace(
                connect_to_new_process=lambda fds: _server().connect_to_new_process(fds),
                read_signed=forkserver.read_signed,
            ),
        },
    )


class _Process(context.ForkServerProcess):
    """A worker. A forked copy of its owner leaves it alone, also when that copy ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner = os.getpid()

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        return _Popen(process_obj)

    def is_alive(self) -> bool:
        return self.owner == os.getpid() and super().is_alive()

    def terminate(self) -> None:
        if self.owner == os.getpid():
            super().terminate()

    def join(self, timeout: float | None = None) -> None:
        if self.owner == os.getpid():
            super().join(timeout)


class WarmContext(context.ForkServerContext):
    """A multiprocessing context whose processes are copies of a warm one."""

    Process = _Process
