import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prm.errors import ConfigError, SandboxUnavailable
from prm.verifiers.sandbox import Call, Job, Limits, make_sandbox, process
from prm.verifiers.sandbox import bwrap as bwrap_module
from prm.verifiers.sandbox.bwrap import BwrapSandbox
from prm.verifiers.sandbox.interpreter import check_reachable, find_interpreter
from prm.verifiers.sandbox.outcome import read_result
from prm.verifiers.sandbox.process import run_command
from tests.sandbox_attacks import ATTACKS, DETACH
from tests.sandbox_runs import (
    GENEROUS,
    SYSTEM_PYTHON,
    answer,
    assert_stopped,
    host_facts,
    left_behind,
    processes_named,
    run_plain,
    unprivileged,
)

ADD = Job("def add(a, b):\n    return a + b\n", "add", (Call((2, 3)),))
QUICK = Limits(wall_s=1.0, cpu_s=2)


@pytest.fixture(scope="module")
def sandbox() -> BwrapSandbox:
    return BwrapSandbox()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_stopped(sandbox, attack):
    assert_stopped(sandbox, attack)


CONTROLS = [attack for attack in ATTACKS if attack.control]


@pytest.mark.parametrize("attack", CONTROLS, ids=lambda attack: attack.name)
def test_the_same_attack_works_without_a_sandbox(attack):
    with host_facts() as host:
        assert answer(run_plain(attack.job(host), secret=host["secret"]))


def test_the_self_test_finds_no_fault(sandbox):
    assert sandbox.self_test() == []


def test_it_is_sound_for_an_ordinary_user_too():
    # This checkout may be closed to others, so that user gets a copy.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        shutil.copytree(Path(__file__).parents[1] / "prm", Path(name, "prm"))
        program = (
            f"import os, sys\nsys.path.insert(0, {name!r})\n"
            "from prm.verifiers.sandbox import *\n"
            "sandbox = make_sandbox('bwrap')\n"
            "result = sandbox.run(Job('def f(): return 5', 'f', (Call(),)), Limits(30.0, 31))\n"
            "print(os.geteuid() != 0, sandbox.self_test(), result.records)"
        )
        command = [*unprivileged(), SYSTEM_PYTHON, "-B", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True [] ({'call': 0, 'value': 5},)\n", done.stderr


class Without(BwrapSandbox):
    """A sandbox with some of its arguments taken away or put in front."""

    def __init__(self, *, without=(), front=(), extra=()):
        super().__init__()
        self.without, self.front, self.extra = without, front, extra

    def arguments(self, limits, filter_fd):
        kept = [word for word in super().arguments(limits, filter_fd) if word not in self.without]
        return [*self.front, *kept, *self.extra]


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (Without(extra=("--bind", "/tmp", "/tmp")), "a file of the host can be read"),
        (Without(extra=("--bind", "/tmp", "/tmp")), "a folder of the host can be written"),
        (Without(front=("--ro-bind", "/etc", "/etc")), "/etc/passwd can be read"),
        (Without(without=("--clearenv",), extra=("--setenv", "TOKEN", "x")), "['TOKEN']"),
        (Without(extra=("--uid", "0")), "the program is root inside"),
    ],
)
def test_the_self_test_finds_what_is_not_sound(broken, fault):
    assert fault in "; ".join(broken.self_test())
    with pytest.raises(SandboxUnavailable) as caught:
        broken.run(ADD, Limits())
    assert fault in caught.value.reason
    assert "apt-get install bubblewrap" in caught.value.how_to_fix


def test_without_the_filter_the_self_test_says_so(monkeypatch):
    # Lets everything through: load nothing, return ALLOW.
    monkeypatch.setattr(bwrap_module, "seccomp_filter", lambda: b"\x06\x00\x00\x00\x00\x00\xff\x7f")
    faults = BwrapSandbox().self_test()
    assert "a socket can be made" in faults


def test_without_its_own_network_the_self_test_says_so(monkeypatch):
    monkeypatch.setattr(bwrap_module, "seccomp_filter", lambda: b"\x06\x00\x00\x00\x00\x00\xff\x7f")
    faults = Without(without=("--unshare-net",)).self_test()
    assert "a port of the host can be reached" in faults


def test_a_sandbox_started_as_root_is_not_sound(monkeypatch):
    if os.geteuid() != 0:  # an ordinary user cannot start one, and has nothing to drop
        assert BwrapSandbox()._drop(0) == []
        return
    monkeypatch.setattr(BwrapSandbox, "_drop", lambda *_: [])
    assert "the program runs as root, seen from outside" in BwrapSandbox().self_test()


def test_an_absent_bubblewrap_is_refused_with_its_remedy(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxUnavailable, match="bwrap is not installed.*apt-get install"):
        BwrapSandbox().run(ADD, Limits())


def test_a_python_that_the_sandbox_cannot_run_is_refused(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    (closed / "file").touch()
    with pytest.raises(ValueError, match="closed is closed to other users"):
        check_reachable([str(closed / "file")])
    with pytest.raises(SandboxUnavailable, match="no Python that.*/none/python3.*apt-get install"):
        find_interpreter("/none/python3", for_others=True)
    with pytest.raises(SandboxUnavailable, match="no Python that"):
        find_interpreter("/bin/true", for_others=True)


def test_another_architecture_is_refused(monkeypatch):
    monkeypatch.setattr(bwrap_module, "is_supported", lambda: False)
    with pytest.raises(SandboxUnavailable, match="no system call filter"):
        BwrapSandbox().run(ADD, Limits())


def test_the_answer_and_the_version_come_back(sandbox):
    result = sandbox.run(ADD, Limits())
    assert (result.outcome, result.records) == ("done", ({"call": 0, "value": 5},))
    assert result.python == sandbox.interpreter.version


def test_each_run_finds_an_empty_scratch_folder(sandbox):
    program = "import os\nopen('/tmp/x', 'x').close()\nprint(sorted(os.listdir('/tmp')))"
    for _ in range(2):
        assert sandbox.run(Job(program, stdin="a"), Limits()).stdout == b"['x']\n"


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "import os, time\nos.closerange(0, 64)\ntime.sleep(60)",
        "import signal\nfor n in range(1, 64):\n try: signal.signal(n, signal.SIG_IGN)\n"
        " except (OSError, ValueError): pass\nwhile True: pass",
    ],
)
def test_a_program_without_end_is_killed_at_the_wall_clock(sandbox, program):
    begin = time.monotonic()
    result = sandbox.run(Job(program), QUICK)
    assert result.outcome == "timeout"
    assert 0.9 < time.monotonic() - begin < 6.0


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("while True: print('x' * 1000000)", "output_limit"),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000000)", "output_limit"),
        ("x = bytearray(10 << 30)", "memory"),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", "memory"),
        ("import os\nos.kill(os.getpid(), 9)", "error"),
        ("1 / 0", "crash"),
        ("import sys\nsys.exit(3)", "crash"),
        ("import ctypes\nctypes.string_at(0)", "crash"),
        ("this is no program", "crash"),
        ("pass", "done"),
    ],
)
def test_how_a_run_ended_is_told(sandbox, program, outcome):
    result = sandbox.run(Job(program), Limits(wall_s=30.0, cpu_s=31, memory_mb=128))
    assert result.outcome == outcome, result


def test_a_sandbox_that_is_slow_to_start_takes_no_time_from_its_program(sandbox, monkeypatch):
    slow = Job("print(1)")
    command = sandbox.interpreter.command
    late = ["/bin/sh", "-c", 'sleep 1.5; exec "$@"', "late"]
    raw = run_command(lambda fd: [*late, *command(fd)], slow.to_bytes(QUICK), QUICK)
    assert (read_result(raw).outcome, raw.stdout) == ("done", b"1\n")
    monkeypatch.setattr(process, "_START_S", 0.5)
    raw = run_command(lambda fd: [*late, *command(fd)], slow.to_bytes(QUICK), QUICK)
    assert read_result(raw).outcome == "error"


def test_the_processor_limit_is_a_timeout_too(sandbox):
    program = "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (0, 1))\nwhile True: pass"
    assert sandbox.run(Job(program), QUICK).outcome == "timeout"


def test_output_is_kept_up_to_the_limit_and_stderr_from_its_end(sandbox):
    limits = Limits(output_bytes=2000, error_bytes=10)
    program = "import sys\nprint('x' * {})\nsys.stderr.write('a' * 90 + 'end')"
    result = sandbox.run(Job(program.format(1000)), limits)
    assert (result.outcome, len(result.stdout)) == ("done", 1001)
    assert result.stderr == b"aaaaaaaend"
    # The driver's own line counts too.
    assert sandbox.run(Job(program.format(1990)), limits).outcome == "output_limit"


def test_the_limit_of_processes_counts_the_first(sandbox):
    program = (
        "import os, time\n"
        "def forks(n):\n"
        "    for made in range(n):\n"
        "        try:\n"
        "            if os.fork() == 0:\n"
        "                time.sleep(60)\n"
        "        except OSError:\n"
        "            return made\n"
        "    return n\n"
    )
    for allowed in (1, 4):
        result = sandbox.run(Job(program, "forks", (Call((50,)),)), Limits(max_processes=allowed))
        assert result.records[0]["value"] == allowed - 1


def test_a_detached_process_does_not_outlive_its_run(sandbox):
    with host_facts() as host:
        name = host["secret"]
        job = Job(DETACH, "attack", (Call((name,)),))
        assert answer(sandbox.run(job, Limits(max_processes=8))) is True
        assert left_behind(name) == []


def test_a_detached_process_outlives_a_plain_run():
    with host_facts() as host:
        name = host["secret"]
        assert answer(run_plain(Job(DETACH, "attack", (Call((name,)),)), GENEROUS)) is True
        left = left_behind(name)
        for process in left:
            os.kill(process, 9)
        assert left


def test_a_killed_run_leaves_nothing(sandbox):
    with host_facts() as host:
        name = host["secret"]
        program = DETACH.replace("return True", "time.sleep(60)")
        result = sandbox.run(
            Job(program, "attack", (Call((name,)),)), Limits(1.0, 2, max_processes=8)
        )
        assert result.outcome == "timeout"
        assert left_behind(name) == []


def test_a_run_ends_with_the_process_that_started_it(sandbox, tmp_path):
    with host_facts() as host:
        name = host["secret"]
        program = (
            "from prm.verifiers.sandbox import *\n"
            f"job = Job({DETACH.replace('return True', 'time.sleep(60)')!r}, 'attack', "
            f"(Call(({name!r},)),))\n"
            "make_sandbox('bwrap').run(job, Limits(30.0, 31, max_processes=8))\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[1])
        end = time.monotonic() + 20
        while not processes_named(name + "\0") and time.monotonic() < end:
            time.sleep(0.05)
        seen = len(processes_named(name))
        parent.kill()
        parent.wait()
        assert seen > 1
        assert left_behind(name) == []


def test_many_threads_get_their_own_answers(sandbox):
    jobs = [Job("def f(x): return x", "f", (Call((index,)),)) for index in range(24)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda job: sandbox.run(job, GENEROUS_TIME), jobs))
    assert [result.records[0]["value"] for result in results] == list(range(24))


GENEROUS_TIME = Limits(wall_s=30.0, cpu_s=31)


def test_it_works_from_asyncio(sandbox):
    async def both():
        runs = [asyncio.to_thread(sandbox.run, ADD, GENEROUS_TIME) for _ in range(4)]
        return await asyncio.gather(*runs)

    assert [result.records[0]["value"] for result in asyncio.run(both())] == [5] * 4


def test_a_fork_storm_beside_it_does_no_honest_program_harm():
    sandbox = BwrapSandbox(workers=2)
    storm = Job("import os\nwhile True:\n try: os.fork()\n except OSError: pass")
    results = []
    thread = threading.Thread(
        target=lambda: results.append(sandbox.run(storm, Limits(1.5, 2, max_processes=32)))
    )
    thread.start()
    while thread.is_alive():
        assert sandbox.run(ADD, GENEROUS_TIME).outcome == "done"
    thread.join()
    assert results[0].outcome == "timeout"


def test_nothing_that_makes_python_fork_is_asked_of_it(monkeypatch, sandbox):
    started = []

    class Spy(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            started.append(kwargs)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", Spy)
    assert sandbox.run(ADD, Limits()).outcome == "done"
    # Any of these makes Python fork, which copies the page tables of a trainer.
    forbidden = {"preexec_fn", "user", "group", "extra_groups", "umask"}
    assert len(started) == 1
    assert not forbidden & set(started[0])


def test_no_descriptor_is_left_open(sandbox):
    sandbox.run(ADD, Limits())
    before = sorted(os.listdir("/proc/self/fd"))
    for job in (ADD, Job("1/0"), Job("while True: pass")):
        sandbox.run(job, Limits(wall_s=0.5, cpu_s=1))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_sandbox_that_does_not_start_is_an_error_and_not_the_programs_fault():
    broken = Without(extra=("--ro-bind", "/none", "/none"))
    broken._sound = True
    result = broken.run(ADD, Limits())
    assert result.outcome == "error"
    assert "bwrap:" in result.detail


def test_names_and_settings_are_checked():
    with pytest.raises(ConfigError, match="'docker' is unknown; there are"):
        make_sandbox("docker")
    with pytest.raises(ConfigError, match="unexpected keyword"):
        make_sandbox("bwrap", {"colour": 1})
    with pytest.raises(ConfigError, match="wall_s: 0 is not above zero"):
        Limits(wall_s=0)
    with pytest.raises(ConfigError, match="cpu_s: 2 is below wall_s"):
        Limits(wall_s=3.0, cpu_s=2)
    for workers in (0, -1):
        with pytest.raises(ConfigError, match=f"workers {workers}: should be 1 or more"):
            make_sandbox("bwrap", {"workers": workers})


def test_the_processor_limit_follows_the_wall_clock_where_it_is_not_given():
    assert (Limits().cpu_s, Limits(wall_s=9.5).cpu_s, Limits(9.5, 30).cpu_s) == (6, 11, 30)


def test_scripts_may_end_by_exit_and_quit(sandbox):
    for word, code in (("exit()", 0), ("quit(0)", 0), ("exit(3)", 3)):
        result = sandbox.run(Job(f"print(1)\n{word}\nprint(2)"), GENEROUS_TIME)
        assert (result.exit_code, result.stdout) == (code, b"1\n"), result


@pytest.mark.parametrize("which", [0, -1])
def test_a_sandbox_that_is_killed_from_outside_is_an_error(sandbox, which):
    sandbox.run(ADD, GENEROUS_TIME)
    job = Job("import time\ntime.sleep(30)")
    with host_facts() as host, ThreadPoolExecutor(1) as pool:
        name = host["secret"]
        process, chain = os.getpid(), []
        # Children of other tests may still be there: they are not the sandbox.
        others = set(descendants(process))
        run = pool.submit(sandbox.run, Job(f"{job.code}  # {name}"), GENEROUS_TIME)
        end = time.monotonic() + 20
        while len(chain) < 3 and time.monotonic() < end:
            time.sleep(0.2)
            chain = [one for one in descendants(process) if one not in others]
        os.kill(chain[which], 9)
        result = run.result()
    assert (result.outcome, "killed" in result.detail) == ("error", True), result


def descendants(process):
    """The youngest child of the process, its child, and so on."""
    found = []
    while children := [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]:
        process = max(children)
        found.append(process)
    return found
