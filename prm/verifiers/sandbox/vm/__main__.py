"""Build, test or measure the virtual machine.

python -m prm.verifiers.sandbox.vm {build,rebuild,test,measure}
"""

from __future__ import annotations

import argparse
import sys

from prm.errors import SandboxUnavailable
from prm.verifiers.sandbox.vm import VmSandbox, build_image
from prm.verifiers.sandbox.vm.measure import measure


def main() -> int:
    """Do what the command line says; 1 when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m prm.verifiers.sandbox.vm", description=__doc__)
    parser.add_argument("command", choices=("build", "rebuild", "test", "measure"))
    parser.add_argument("--cache", help="folder for the image (default: the user's cache)")
    arguments = parser.parse_args()
    try:
        return _do(arguments.command, arguments.cache)
    except SandboxUnavailable as err:
        _say(str(err))
        return 1


def _do(command: str, cache: str | None) -> int:
    if command == "test":
        return _test(VmSandbox(workers=1, spare=0, cache=cache))
    if command == "measure":
        _say("\n".join(measure(cache)))
        return 0
    image = build_image(cache, _say, again=command == "rebuild")
    _say(f"{image.snapshot}: {image.hardware}, slowdown {image.slowdown}")
    return 0


def _test(sandbox: VmSandbox) -> int:
    faults = sandbox.self_test()
    sandbox.close()
    _say("\n".join(faults) or "sound")
    return 1 if faults else 0


def _say(text: str) -> None:
    # The base installation has no rich, and needs none to build an image.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
