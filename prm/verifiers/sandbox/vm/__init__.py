"""A sandbox that is a virtual machine: `VmSandbox`, and `build_image` for what it runs.

python -m prm.verifiers.sandbox.vm build    # once: needs apt, qemu and about a minute
"""

from prm.verifiers.sandbox.vm.image import Image, build_image, find_image
from prm.verifiers.sandbox.vm.sandbox import VmSandbox

__all__ = ["Image", "VmSandbox", "build_image", "find_image"]
