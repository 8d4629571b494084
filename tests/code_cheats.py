"""Cheats against a checker of programs, each with a weak checker that it fools.

The task: ``nth_prime(n)``. The weak checkers are what others use: the exit code of the program with
its asserts, a token that is printed at the end, a secret nonce in an in-process runner, and an
in-process runner that reports JSON. They run in a plain process of an unprivileged user.
"""

import dataclasses
import json
import secrets
import subprocess

from prm.verifiers.code import CallTest, CodeTask
from tests.sandbox_runs import SYSTEM_PYTHON, unprivileged

TESTS = ((1, 2), (2, 3), (6, 13), (10, 29))
TASK = CodeTask("call", tuple(CallTest(answer, (n,)) for n, answer in TESTS), entry="nth_prime")
TOKEN = "ALL TESTS PASSED"

HONEST = """
def nth_prime(n):
    found, candidate = [], 1
    while len(found) < n:
        candidate += 1
        if all(candidate % prime for prime in found):
            found.append(candidate)
    return found[-1]
"""
WRONG = "def nth_prime(n):\n    return n + 1\n"


@dataclasses.dataclass(frozen=True)
class Cheat:
    """``fools``: a weak checker that it passes; None = it aims at our own records."""

    name: str
    fools: str | None
    program: str


CHEATS = [
    Cheat("os._exit(0)", "exit_code", "import os\nos._exit(0)"),
    Cheat("sys.exit(0)", "exit_code", "import sys\nsys.exit(0)"),
    Cheat(
        "__eq__ always True",
        "exit_code",
        "class Any:\n    def __eq__(self, other): return True\ndef nth_prime(n): return Any()",
    ),
    Cheat(
        "int subclass eq",
        "exit_code",
        "class Int(int):\n"
        "    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n"
        "    __hash__ = int.__hash__\n"
        "def nth_prime(n): return Int(0)",
    ),
    Cheat(
        "print token",
        "token",
        f"import os\nprint({TOKEN!r}, flush=True)\nos._exit(0)",
    ),
    Cheat(
        "frame walk for nonce",
        "nonce",
        "import os, sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    if 'nonce' in frame.f_locals:\n"
        "        print(frame.f_locals['nonce'], flush=True)\n"
        "        os._exit(0)\n"
        "    frame = frame.f_back\n"
        "def nth_prime(n): return 0",
    ),
    Cheat(
        "gc/stack read expected",
        "in_process",
        "import gc, sys\n"
        "def nth_prime(n):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        for value in list(frame.f_locals.values()) + gc.get_objects():\n"
        "            if isinstance(value, (list, tuple)) and value:\n"
        "                for pair in value:\n"
        "                    if (isinstance(pair, (list, tuple)) and len(pair) == 2\n"
        "                            and pair[0] == n and type(pair[1]) is int and pair[1] > n):\n"
        "                        return pair[1]\n"
        "        frame = frame.f_back\n"
        "    return 0",
    ),
    Cheat(
        "read source from cmdline",
        "exit_code",
        "import re, sys\n"
        "with open('/proc/self/cmdline') as file:\n"
        "    pairs = re.findall(r'nth_prime\\((\\d+)\\) == (\\d+)', file.read())\n"
        "known = {int(n): int(answer) for n, answer in pairs}\n"
        "def nth_prime(n): return known.get(n, 0)",
    ),
    Cheat(
        "patch builtins/json.dumps",
        "in_process",
        "import builtins, json\n"
        "json.dumps = lambda *args, **kwargs: '{\"passed\": true}'\n"
        "builtins.all = builtins.isinstance = lambda *args: True\n"
        "def nth_prime(n): return 0",
    ),
    Cheat(
        "atexit forge",
        "token",
        f"import atexit\natexit.register(print, {TOKEN!r}, flush=True)\ndef nth_prime(n): return 0",
    ),
    Cheat(
        "write fd 3..9",
        None,
        "import os\n"
        "for fd in range(3, 64):\n"
        "    try:\n"
        "        for index in range(4):\n"
        '            os.write(fd, b\'{"call":%d,"value":2}\\n\' % index)\n'
        "    except OSError:\n"
        "        pass\n"
        "def nth_prime(n): return 0",
    ),
    Cheat(
        "trace/AssertionError swallow",
        "exit_code",
        "import os, sys\nsys.excepthook = lambda *args: os._exit(0)\ndef nth_prime(n): return 0",
    ),
    Cheat(
        "sleep proc writes later",
        "token",
        "import os, time\n"
        "try:\n"
        "    child = os.fork()\n"
        "except OSError:\n"
        "    child = 1\n"
        "if child == 0:\n"
        "    time.sleep(0.2)\n"
        f"    print({TOKEN!r}, flush=True)\n"
        "    os._exit(0)\n"
        "def nth_prime(n): return 0",
    ),
]

_ASSERTS = "\n".join(f"assert nth_prime({n}) == {answer}" for n, answer in TESTS)
_RUNNER = """
import json
def run(nonce, code, tests):
    names = {}
    exec(code, names)
    passed = all([names["nth_prime"](n) == answer for n, answer in tests])
    print(REPORT)
"""


def is_fooled(checker: str, program: str) -> bool:
    """Does the weak checker of that name pass the program?"""
    if checker in ("exit_code", "token"):
        code, output = _run(f"{program}\n{_ASSERTS}\nprint({TOKEN!r})")
        return code == 0 if checker == "exit_code" else TOKEN in output
    nonce = secrets.token_hex(8)
    report = {
        "nonce": "nonce if passed else 'fail'",
        "in_process": "json.dumps({'passed': passed})",
    }
    runner = _RUNNER.replace("REPORT", report[checker])
    # The program travels through a name, so that the source on the command line is no help.
    _, output = _run(f"{runner}\nrun({nonce!r}, {program!r}, {[list(test) for test in TESTS]!r})")
    if checker == "nonce":
        return nonce in output
    lines = output.strip().splitlines()
    return bool(lines) and json.loads(lines[-1])["passed"]


def _run(source: str) -> tuple[int, str]:
    done = subprocess.run(
        [*unprivileged(), SYSTEM_PYTHON, "-I", "-c", source],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout
