"""The driver that runs inside a sandbox: sets the limits, loads the program, sends its answers.

`prm.verifiers.sandbox.bootstrap` joins `values.py` and this file into one text for ``python -c``;
`prm.verifiers.sandbox.protocol` says what goes in and out. Nothing here is a secret or a judge: the
program can reach and change all of it, and gains nothing, since no expected value is here.
"""

from __future__ import annotations

import builtins
import marshal
import os
import resource
import sys

from prm.verifiers.sandbox.values import decode, encode, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MIB = 1 << 20
_SCRATCH_FILE = "/tmp/.stdin"


def main() -> None:
    """Do the job on fd 0; the number of the record descriptor is the first argument."""
    records = int(sys.argv[1])
    job = marshal.loads(_read_all(0))
    _replace_stdin(job["stdin"])
    _set_limits(job["limits"])
    _send(records, {"hello": sys.version})
    if job["entry"] is None:
        os.close(records)
        _load(job["code"], "__main__")
        return
    # What is printed is no answer to a call; it may not mix with the records either.
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    _answer_calls(records, job)
    os._exit(0)


def _read_all(descriptor: int) -> bytes:
    chunks = []
    while chunk := os.read(descriptor, _MIB):
        chunks.append(chunk)
    return b"".join(chunks)


def _replace_stdin(text: str) -> None:
    path = "/dev/null"
    if text:
        path = _SCRATCH_FILE
        with open(path, "wb") as file:
            file.write(text.encode("utf-8", "surrogatepass"))
    descriptor = os.open(path, os.O_RDONLY)
    os.dup2(descriptor, 0)
    os.close(descriptor)
    if text:
        os.unlink(path)


def _set_limits(limits: dict[str, Any]) -> None:
    """Set the hard limits; set in here, they count this sandbox's processes and no others."""
    processes = limits["max_processes"]
    for name, soft, hard in (
        ("RLIMIT_AS", limits["memory_mb"] * _MIB, None),
        ("RLIMIT_CPU", limits["cpu_s"], limits["cpu_s"] + 1),
        ("RLIMIT_FSIZE", limits["file_mb"] * _MIB, None),
        ("RLIMIT_NOFILE", limits["open_files"], None),
        # With 1, this process alone reaches the limit; above, the first process counts too.
        ("RLIMIT_NPROC", processes if processes == 1 else processes + 1, None),
        ("RLIMIT_CORE", 0, None),
    ):
        resource.setrlimit(getattr(resource, name), (soft, soft if hard is None else hard))


def _send(descriptor: int, record: dict[str, Any]) -> None:
    data = (to_json(record) + "\n").encode("utf-8", "surrogatepass")
    while data:
        data = data[os.write(descriptor, data) :]


def _load(code: str, name: str) -> dict[str, Any]:
    """Run the program as a module of that name; its globals."""
    module = type(sys)(name)
    sys.modules[name] = module
    sys.argv = ["program.py"]
    # Python's `site` defines them, and the driver is started without it.
    names: dict[str, Any] = builtins.__dict__
    names["exit"] = names["quit"] = _exit
    program = compile(code, "program.py", "exec", dont_inherit=True)
    exec(program, module.__dict__)
    return module.__dict__


def _exit(code: object = None) -> None:
    raise SystemExit(code)


def _answer_calls(records: int, job: dict[str, Any]) -> None:
    """Load the program and make the calls, one record each, until all are made."""
    try:
        names = _load(job["code"], "program")
    except BaseException as error:  # noqa: BLE001 (whatever the program does is its result)
        _send(records, {"call": None, "raised": _describe(error)})
        return
    for index, call in enumerate(job["calls"]):
        try:
            value = _function(names, job["entry"])(*decode(call["args"]), **decode(call["kwargs"]))
        except BaseException as error:  # noqa: BLE001 (as above)
            record = {"call": index, "raised": _describe(error)}
        else:
            record = _value_record(index, value)
        _send(records, record)


def _value_record(index: int, value: object) -> dict[str, Any]:
    try:
        return {"call": index, "value": encode(value)}
    except BaseException as error:  # noqa: BLE001 (encoding runs the program's own methods)
        return {"call": index, "unsendable": _describe(error)}


def _function(names: dict[str, Any], entry: str) -> Callable[..., Any]:
    """``name``, or ``Class.method`` of a new instance."""
    first, *rest = entry.split(".")
    found = names[first]
    if rest:
        found = found()
    for name in rest:
        found = getattr(found, name)
    function: Callable[..., Any] = found
    return function


def _describe(error: BaseException) -> str:
    try:
        text = str.__str__(str(error))
    except BaseException:  # noqa: BLE001 (the program's own __str__)
        text = ""
    return f"{type(error).__name__}: {text}"[:300]
