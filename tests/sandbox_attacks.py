"""Attacks on a sandbox, as data for the tests of every backend.

An attack is a program with a function ``attack(host)`` that returns something true if it worked.
``host`` tells it what there is to find (`tests.sandbox_runs.host_facts`). Where that does no harm
(``control``), a test shows that the attack works in a plain process of an unprivileged user.
"""

import dataclasses
from typing import Any

from prm.verifiers.sandbox import Call, Job


@dataclasses.dataclass(frozen=True)
class Attack:
    """``control``: it does no harm, and works, in a plain process of an unprivileged user."""

    name: str
    program: str
    control: bool = True

    def job(self, host: dict[str, Any]) -> Job:
        return Job(_PRELUDE + self.program, "attack", (Call((host,)),))


_PRELUDE = """
import ctypes, os, signal, socket, sys, tempfile, time

def works(action, *args):
    try:
        action(*args)
    except (OSError, RuntimeError):
        return False
    return True

def call(number, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(number, *(ctypes.c_long(it) for it in args))
    return result, ctypes.get_errno()
"""

ATTACKS = [
    Attack(
        "read /etc/passwd",
        """
def attack(host): return works(open, '/etc/passwd')
""",
    ),
    Attack(
        "read a file that everybody may read",
        """
def attack(host): return works(open, host['canary'])
""",
    ),
    Attack(
        "list the host's folders",
        """
def attack(host):
    folders = ['/etc', '/var', '/home', '/sys', '/boot', '/usr/share']
    return [it for it in folders if works(os.listdir, it)]
""",
    ),
    Attack(
        "see more in the root than was given",
        """
def attack(host):
    return sorted(set(os.listdir('/')) - {'dev', 'lib', 'lib64', 'proc', 'tmp', 'usr'})
""",
    ),
    Attack(
        "write a file into a folder that everybody may write",
        """
def attack(host): return works(open, host['folder'] + '/written', 'w')
""",
    ),
    Attack(
        "change the interpreter's library",
        """
def attack(host): return works(open, os.__file__, 'a')
""",
        control=False,  # it works for root alone
    ),
    Attack(
        "make a file in the root",
        """
def attack(host):
    paths = [it + '/' + host['name'] for it in ('', '/usr', '/dev', '/proc', '/dev/shm')]
    found = [it for it in paths if works(open, it, 'x')]
    for path in found:
        os.unlink(path)
    return found
""",
    ),
    Attack(
        "connect to a port of the host",
        """
def attack(host): return works(socket.create_connection, ('127.0.0.1', host['port']), 2)
""",
    ),
    Attack(
        "connect to an abstract socket of the host",
        r"""
def attack(host):
    def connect():
        with socket.socket(socket.AF_UNIX) as link:
            link.connect('\0' + host['name'])
    return works(connect)
""",
    ),
    Attack(
        "make sockets of every family",
        """
def attack(host):
    return [it for it in range(1, 46) if works(socket.socket, it)]
""",
    ),
    Attack(
        "fork",
        """
def attack(host):
    children = 0
    for _ in range(4):
        try:
            child = os.fork()
        except OSError:
            continue
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        children += 1
    return children
""",
    ),
    Attack(
        "start threads",
        """
import threading
def attack(host): return works(threading.Thread(target=time.sleep, args=(0.01,)).start)
""",
    ),
    Attack(
        "spawn by posix_spawn",
        """
def attack(host):
    command = [sys.executable, '-c', '']
    return works(lambda: os.waitpid(os.posix_spawn(sys.executable, command, {}), 0))
""",
    ),
    Attack(
        "map 3 GiB",
        """
import mmap
def attack(host): return works(mmap.mmap, -1, 3 << 30)
""",
    ),
    Attack(
        "raise its own limits",
        """
import resource
def attack(host):
    found = []
    for name in ('AS', 'NPROC', 'FSIZE', 'NOFILE', 'CPU', 'CORE'):
        kind = getattr(resource, 'RLIMIT_' + name)
        hard = resource.getrlimit(kind)[1]
        try:
            resource.setrlimit(kind, (hard + 1, hard + 1))
            found.append(name)
        except (OSError, ValueError):
            pass
    return found
""",
        control=False,  # no user but root may raise a hard limit
    ),
    Attack(
        "write a file of 20 MB",
        """
def attack(host):
    with tempfile.TemporaryFile() as file:
        return works(lambda: [file.write(bytes(1 << 20)) and file.flush() for _ in range(20)])
""",
    ),
    Attack(
        "fill 70 MB of the disk by small files",
        """
def attack(host):
    folder = tempfile.mkdtemp()
    def fill():
        for index in range(7):
            with open(f'{folder}/{index}', 'wb') as file:
                file.write(bytes(10 << 20))
    try:
        return works(fill)
    finally:
        import shutil
        shutil.rmtree(folder)
""",
    ),
    Attack(
        "keep 1,000 files open",
        """
import resource
def attack(host):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = []
    return works(lambda: [files.append(open('/dev/null')) for _ in range(1000)])
""",
    ),
    Attack(
        "signal a process of the host",
        """
def attack(host): return works(os.kill, host['victim'], 0)
""",
    ),
    Attack(
        "signal everything",
        """
def attack(host):
    works(os.kill, -1, signal.SIGUSR1)
    works(os.kill, 1, signal.SIGKILL)
    works(os.kill, os.getppid(), signal.SIGKILL)
    return works(os.kill, host['victim'], signal.SIGKILL)
""",
        control=False,  # it would reach processes that are not the test's
    ),
    Attack(
        "trace and be traced",
        """
def attack(host):
    libc = ctypes.CDLL(None)
    return libc.ptrace(0, 0, 0, 0) == 0 or libc.ptrace(16, host['victim'], 0, 0) == 0
""",
    ),
    Attack(
        "read the environment of its parents",
        """
def attack(host):
    found = [it for it in os.environ.values() if host['secret'] in it]
    for name in os.listdir('/proc'):
        try:
            with open(f'/proc/{name}/environ') as file:
                found += [name] * (host['secret'] in file.read())
        except OSError:
            pass
    return found
""",
    ),
    Attack(
        "see the host's processes",
        """
def attack(host):
    found = []
    for name in os.listdir('/proc'):
        try:
            with open(f'/proc/{name}/cmdline') as file:
                found += [name] * (host['name'] in file.read())
        except OSError:
            pass
    return found
""",
    ),
    Attack(
        "follow a symbolic link out",
        """
def attack(host):
    link = tempfile.mktemp()
    os.symlink(host['canary'], link)
    try:
        return works(open, link)
    finally:
        os.unlink(link)
""",
    ),
    Attack(
        "leave by another process's root",
        """
def attack(host):
    ids = [it for it in os.listdir('/proc') if it.isdecimal()] + ['self']
    paths = [f'/proc/{it}/{way}{host["canary"]}' for it in ids for way in ('root', 'cwd/..')]
    return [it for it in paths if works(open, it)]
""",
    ),
    Attack(
        "open the kernel's settings for writing",
        """
def attack(host):
    names = ['sys/kernel/core_pattern', 'sys/kernel/hostname', 'sys/vm/swappiness', 'sysrq-trigger',
             'self/oom_score_adj', 'self/coredump_filter']
    return [it for it in names if works(os.open, '/proc/' + it, os.O_WRONLY)]
""",
    ),
    Attack(
        "read the kernel's memory and log",
        """
def attack(host):
    paths = ['/dev/mem', '/dev/kmsg', '/proc/kcore', '/dev/sda', '/dev/vda', '/dev/kvm',
             '/dev/fuse', '/dev/nvidiactl']
    return [it for it in paths if works(open, it, 'rb')]
""",
        control=False,  # it works for root alone
    ),
    Attack(
        "become another user",
        """
def attack(host): return works(os.setuid, 0) or works(os.setgid, 0)
""",
        control=False,  # it works for root alone
    ),
    Attack(
        "make a user namespace",
        """
def attack(host): return ctypes.CDLL(None).unshare(0x10000000) == 0
""",
    ),
    Attack(
        "make a user namespace by clone",
        """
def attack(host):
    number = 56 if os.uname().machine == 'x86_64' else 220
    result, _ = call(number, 0x10000000 | 17, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    return result > 0
""",
    ),
    Attack(
        "mount",
        """
def attack(host): return ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0
""",
        control=False,  # it works for root alone
    ),
    Attack(
        "reach system calls that no honest program needs",
        """
def attack(host):
    is_intel = os.uname().machine == 'x86_64'
    # Harmless arguments: each fails, if it is let through, with another error than EPERM.
    calls = {'io_uring_setup': (425, 425), 'memfd_create': (319, 279), 'shmget': (29, 194),
             'keyctl': (250, 219), 'add_key': (248, 217), 'process_vm_readv': (310, 270),
             'unshare': (272, 97), 'personality': (135, 92), 'userfaultfd': (323, 282),
             'name_to_handle_at': (303, 264), 'pidfd_getfd': (438, 438), 'kcmp': (312, 272),
             'clone3': (435, 435), 'semget': (64, 190), 'msgget': (68, 186),
             'open_tree': (428, 428), 'vmsplice': (278, 75)}
    arguments = {'personality': (0xFFFFFFFF,), 'unshare': (0,), 'memfd_create': (0, 0)}
    found = []
    for name, numbers in calls.items():
        args = arguments.get(name, (-1, -1, -1, -1, -1))
        result, error = call(numbers[0 if is_intel else 1], *args)
        if result >= 0 or error != (38 if name == 'clone3' else 1):
            found.append((name, result, error))
    return found
""",
    ),
    Attack(
        "type into the terminal",
        """
import fcntl
def attack(host):
    ways = ['/dev/tty', '/dev/console'] + [f'/proc/self/fd/{it}' for it in range(10)]
    for way in ways:
        try:
            fd = os.open(way, os.O_RDWR)
            fcntl.ioctl(fd, 0x5412, b'x')
            return way
        except OSError:
            pass
    return False
""",
        control=False,  # a test has no terminal
    ),
    Attack(
        "use a descriptor that was left open",
        """
def attack(host):
    found = []
    for name in os.listdir('/proc/self/fd'):
        try:
            path = os.readlink('/proc/self/fd/' + name)
        except OSError:
            continue
        if not path.startswith(('pipe:', '/dev/null', '/proc/')):
            found.append(path)
    return found
""",
        control=False,  # a plain process is started without any, too
    ),
]

DETACH = """
import os, sys, time
def attack(host):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            os.open("/dev/null", os.O_RDWR), os.dup(0), os.dup(0)
            sleep = "import time; time.sleep(60)"
            os.execv(sys.executable, [sys.executable, "-S", "-c", sleep, host])
        os._exit(0)
    os.wait()
    time.sleep(0.3)
    return True
"""
"""Leave a process behind that has nothing in common with its parent; it needs some processes."""
