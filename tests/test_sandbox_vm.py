import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prm.errors import ConfigError, SandboxUnavailable
from prm.verifiers.code import check_code
from prm.verifiers.sandbox import Call, Job, Limits, make_sandbox
from prm.verifiers.sandbox.vm import VmSandbox, build_image, command, image
from prm.verifiers.sandbox.vm.guest import FRAME
from prm.verifiers.sandbox.vm.initramfs import write_initramfs
from prm.verifiers.sandbox.vm.reading import Conversation
from tests.code_cheats import CHEATS, HONEST, TASK, WRONG
from tests.sandbox_attacks import ATTACKS, DETACH
from tests.sandbox_runs import (
    answer,
    assert_stopped,
    host_facts,
    left_behind,
    processes_named,
)

slow = pytest.mark.slow
ADD = Job("def add(a, b):\n    return a + b\n", "add", (Call((2, 3)),))
LONG = Limits(wall_s=30.0, cpu_s=31)
"""For where time is not what is tested."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> str:
    """The folder of an image that is built anew, once."""
    folder = str(tmp_path_factory.mktemp("vm"))
    build_image(folder)
    return folder


@pytest.fixture(scope="module")
def sandbox(cache):
    made = VmSandbox(workers=2, spare=1, cache=cache)
    yield made
    made.close()


@pytest.fixture(scope="module")
def unscaled(cache):
    """Its seconds are the host's, so that a test of time need not wait for long."""
    made = VmSandbox(workers=2, spare=0, time_scale=1.0, cache=cache)
    yield made
    made.close()


def machines(process: int | None = None) -> list[int]:
    """The qemu processes (and their jails) that this or another process started."""
    return processes_named(command.machine_name(process or os.getpid()) + "\0")


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_stopped(sandbox, monkeypatch, attack):
    monkeypatch.setenv("SECRET", "prm-secret")
    assert_stopped(sandbox, attack)


@slow
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)
def test_a_cheat_does_not_pass(sandbox, cheat):
    assert check_code(cheat.program, TASK, sandbox=sandbox).status == "wrong"


@slow
def test_the_honest_program_passes_and_the_wrong_one_does_not(sandbox):
    verdict = check_code(HONEST, TASK, sandbox=sandbox)
    assert (verdict.status, verdict.passed, verdict.backend) == ("right", 4, "code/vm")
    assert check_code(WRONG, TASK, sandbox=sandbox).reason == "wrong_answer"


@slow
def test_the_self_test_finds_no_fault(sandbox):
    assert sandbox.self_test() == []


@slow
def test_an_image_without_the_filter_is_not_sound(monkeypatch, tmp_path):
    # Lets everything through: load nothing, return ALLOW.
    monkeypatch.setattr(image, "seccomp_filter", lambda: b"\x06\x00\x00\x00\x00\x00\xff\x7f")
    build_image(tmp_path)
    with (
        contextlib.closing(VmSandbox(workers=1, spare=0, cache=str(tmp_path))) as open_one,
        pytest.raises(SandboxUnavailable, match="a socket can be made"),
    ):
        open_one.run(ADD, Limits())


@slow
def test_the_answer_and_the_version_come_back(sandbox):
    result = sandbox.run(ADD, Limits())
    assert (result.outcome, result.records) == ("done", ({"call": 0, "value": 5},))
    assert result.python == sandbox.image.python


@slow
@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("while True: print('x' * 1000000)", "output_limit"),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000000)", "output_limit"),
        ("x = bytearray(10 << 30)", "memory"),
        ("import os\nos.kill(os.getpid(), 9)", "error"),
        ("1 / 0", "crash"),
        ("import sys\nsys.exit(3)", "crash"),
        ("import ctypes\nctypes.string_at(0)", "crash"),
        ("this is no program", "crash"),
        ("pass", "done"),
        ("exit()", "done"),
    ],
)
def test_how_a_run_ended_is_told(sandbox, program, outcome):
    result = sandbox.run(Job(program), Limits())
    assert result.outcome == outcome, result


@slow
@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import os, time\nos.closerange(0, 64)\ntime.sleep(60)",
        "import signal\nfor n in range(1, 64):\n try: signal.signal(n, signal.SIG_IGN)\n"
        " except (OSError, ValueError): pass\nwhile True: pass",
    ],
)
def test_a_program_without_end_is_killed_at_the_wall_clock(unscaled, program):
    result = unscaled.run(Job(program), Limits(wall_s=2.0, cpu_s=3))
    assert result.outcome == "timeout"
    assert 2.0 <= result.seconds < 4.0


@slow
def test_limits_of_time_are_stretched_by_the_slowdown(cache):
    with pytest.raises(ConfigError, match="time_scale 0"):
        VmSandbox(time_scale=0, cache=cache)
    measured = VmSandbox(cache=cache)
    assert measured.time_scale == measured.image.slowdown >= 1.0
    with contextlib.closing(VmSandbox(1, 0, time_scale=4.0, cache=cache)) as stretched:
        result = stretched.run(Job("while True: pass"), Limits(wall_s=0.5, cpu_s=1))
    assert (result.outcome, 2.0 <= result.seconds < 4.0) == ("timeout", True)


@slow
def test_a_job_and_its_output_arrive_whole(sandbox):
    text = "".join(f"{index * index}\n" for index in range(60_000))
    program = "import sys\ndata = sys.stdin.read()\nprint(data[-200000:], end='')"
    result = sandbox.run(Job(program, stdin=text), LONG)
    assert result.stdout == text[-200_000:].encode()


@slow
def test_output_is_kept_up_to_the_limit_and_stderr_from_its_end(sandbox):
    limits = Limits(output_bytes=1000, error_bytes=10)
    program = "import sys\nprint('x' * 799)\nsys.stderr.write('a' * 90 + 'end')"
    result = sandbox.run(Job(program), limits)
    assert (result.outcome, len(result.stdout), result.stderr) == ("done", 800, b"aaaaaaaend")
    assert sandbox.run(Job("print('x' * 1000)"), limits).outcome == "output_limit"


@slow
def test_runs_share_the_snapshot_but_no_file_no_clock_and_no_randomness(sandbox):
    program = (
        "import os, random, time\n"
        "open('/tmp/x', 'x').close()\n"
        "print(sorted(os.listdir('/tmp')), random.random(), time.time())"
    )
    first, second = (sandbox.run(Job(program), Limits()).stdout.decode().split() for _ in "ab")
    assert first[0] == second[0] == "['x']"
    assert first[1] != second[1]
    assert abs(float(second[2]) - time.time()) < 60


@slow
def test_with_one_process_allowed_more_there_are_no_more(sandbox):
    program = (
        "import os, time\n"
        "def forks(n):\n"
        "    for made in range(n):\n"
        "        try:\n"
        "            if os.fork() == 0:\n"
        "                time.sleep(600)\n"
        "        except OSError:\n"
        "            return made\n"
        "    return n\n"
    )
    for allowed in (1, 4):
        result = sandbox.run(Job(program, "forks", (Call((50,)),)), Limits(max_processes=allowed))
        assert result.records[0]["value"] == allowed - 1


@slow
def test_a_detached_process_ends_with_the_machine(sandbox):
    with host_facts() as host:
        name = host["secret"]
        job = Job(DETACH, "attack", (Call((name,)),))
        assert answer(sandbox.run(job, Limits(max_processes=8))) is True
        assert left_behind(name) == []


@slow
def test_more_memory_than_the_machine_has_is_refused(sandbox):
    with pytest.raises(ConfigError, match="more than the virtual machine has"):
        sandbox.run(ADD, Limits(memory_mb=4096))


@slow
def test_many_threads_get_their_own_answers(sandbox):
    jobs = [Job("def f(x): return x", "f", (Call((index,)),)) for index in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda job: sandbox.run(job, LONG), jobs))
    assert [result.records[0]["value"] for result in results] == list(range(8))


@slow
def test_it_works_from_asyncio(sandbox):
    async def both():
        return await asyncio.gather(*(asyncio.to_thread(sandbox.run, ADD, LONG) for _ in range(3)))

    assert [result.records[0]["value"] for result in asyncio.run(both())] == [5] * 3


@slow
def test_qemu_is_nobody_in_a_jail(unscaled):
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(unscaled.run, Job("import time\ntime.sleep(4)"), LONG)
        assert wait_until(machines)
        time.sleep(1.0)
        found = [Path(f"/proc/{process}/status").read_text() for process in machines()]
        assert run.result().outcome == "done"
    status = next(text for text in found if text.startswith("Name:\tqemu"))
    rows = dict(line.split(":\t", 1) for line in status.splitlines())
    assert "0" not in rows["Uid"].split()
    assert (rows["Seccomp"], rows["NoNewPrivs"], int(rows["CapEff"], 16)) == ("2", "1", 0)


@slow
def test_a_machine_that_dies_is_an_error_and_not_the_programs_fault(unscaled):
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(unscaled.run, Job("import time\ntime.sleep(60)"), LONG)
        assert wait_until(machines)
        time.sleep(1.0)
        for process in machines():
            os.kill(process, 9)
        assert run.result().outcome == "error"
    assert unscaled.run(ADD, LONG).outcome == "done"


@slow
def test_a_machine_that_died_while_it_waited_is_replaced(cache):
    with contextlib.closing(VmSandbox(workers=1, spare=1, cache=cache)) as made:
        assert made.run(ADD, LONG).outcome == "done"
        time.sleep(3.0)
        assert machines()
        for process in machines():
            os.kill(process, 9)
        assert wait_until(lambda: not machines())
        assert made.run(ADD, LONG).outcome == "done"


@slow
def test_closing_leaves_no_machine_and_no_descriptor(cache, sandbox):
    sandbox.close()
    before = sorted(os.listdir("/proc/self/fd"))
    with contextlib.closing(VmSandbox(1, 2, time_scale=1.0, cache=cache)) as made:
        for job in (ADD, Job("1/0"), Job("while True: pass")):
            made.run(job, Limits(wall_s=1.0, cpu_s=2))
        assert machines()
    assert machines() == []
    assert sorted(os.listdir("/proc/self/fd")) == before
    with contextlib.closing(made):
        assert made.run(ADD, LONG).outcome == "done"


@slow
def test_machines_end_with_the_process_that_started_them(cache):
    program = (
        "from prm.verifiers.sandbox import *\n"
        f"made = make_sandbox('vm', {{'workers': 1, 'cache': {cache!r}}})\n"
        "made.run(Job('import time\\ntime.sleep(600)'), Limits(600.0, 601))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[1])
    assert wait_until(lambda: machines(parent.pid))
    time.sleep(2.0)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not machines(parent.pid), 5.0)


@slow
def test_an_image_is_found_and_not_built_twice(cache):
    said = []
    assert build_image(cache, said.append) == image.find_image(cache)
    assert said == []


def test_an_absent_image_is_refused_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(image, "qemu_version", lambda: "QEMU emulator version 0")
    made = make_sandbox("vm", {"cache": str(tmp_path)})
    with pytest.raises(SandboxUnavailable, match=r"python -m prm.verifiers.sandbox.vm build"):
        made.run(ADD, Limits())
    made.close()


def test_an_absent_qemu_is_refused_with_its_remedy(tmp_path, monkeypatch):
    command.qemu_version.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxUnavailable, match="qemu-system-x86_64 is not.*apt-get install"):
        VmSandbox(cache=str(tmp_path)).run(ADD, Limits())


def test_another_architecture_is_refused(tmp_path, monkeypatch):
    command.qemu_version.cache_clear()
    monkeypatch.setattr(command.platform, "machine", lambda: "aarch64")
    with pytest.raises(SandboxUnavailable, match="made for x86_64, not aarch64"):
        VmSandbox(cache=str(tmp_path)).run(ADD, Limits())


def test_the_machine_has_no_disk_no_network_and_no_monitor_for_the_guest():
    words = command.Hardware("tcg", 512).arguments()
    assert "-nodefaults" in words
    for option in ("-drive", "-netdev", "-nic", "-device", "-fsdev", "-virtfs", "-monitor"):
        assert option not in words


def frame(kind, data):
    return FRAME.pack(kind, len(data)) + data


def test_frames_are_read_in_pieces_of_any_size():
    data = frame(b"r", b"hello") + frame(b"o", b"out") + frame(b"e", b"err") + frame(b"x", b"3 ")
    for size in (1, 2, 7, len(data)):
        conversation = Conversation()
        for start in range(0, len(data), size):
            conversation.add(data[start : start + size])
        raw, ended = conversation.result(1.0, is_late=False)
        assert (raw.records, raw.stdout, raw.stderr, raw.exit_code) == (b"hello", b"out", b"err", 3)
        assert (ended, raw.stopped) == ("itself", "")


@pytest.mark.parametrize(
    "forged",
    [
        FRAME.pack(b"r", 1 << 30),
        frame(b"?", b""),
        frame(b"x", b"-1 "),
        frame(b"x", b"0 survived"),
        frame(b"x", b"9999 "),
        frame(b"x", b"\xb2 "),
    ],
)
def test_what_is_no_frame_is_a_broken_machine(forged):
    conversation = Conversation()
    conversation.add(forged)
    assert not conversation.goes_on
    assert conversation.result(1.0, is_late=False)[1] == "broken"


def test_the_host_holds_the_limit_of_output_whatever_the_guest_does():
    conversation = Conversation(Limits(output_bytes=100))
    conversation.add(frame(b"r", b"x" * 60) + frame(b"o", b"x" * 41) + frame(b"o", b"x" * 1000))
    raw, ended = conversation.result(1.0, is_late=False)
    assert (raw.stopped, len(raw.records + raw.stdout), ended) == ("output_limit", 101, "killed")


def test_the_archive_does_not_depend_on_times_or_on_the_order_of_the_files(tmp_path):
    sums = []
    for names in (("b", "a", "c"), ("c", "b", "a")):
        root = tmp_path / "".join(names)
        for time_of_file, name in enumerate(names):
            path = root / name / "file"
            path.parent.mkdir(parents=True)
            path.write_text(name)
            os.utime(path, (time_of_file, time_of_file))
        write_initramfs(tmp_path / "archive", root, {"init": (b"x", 0o755)})
        sums.append(hashlib.sha256((tmp_path / "archive").read_bytes()).hexdigest())
    assert sums[0] == sums[1]
    (root / "a" / "file").write_text("other")
    write_initramfs(tmp_path / "archive", root, {"init": (b"x", 0o755)})
    assert hashlib.sha256((tmp_path / "archive").read_bytes()).hexdigest() != sums[0]
