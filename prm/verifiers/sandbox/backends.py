"""The sandboxes by name. There is no fall-back from one to another, and none to no sandbox."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any, cast

from prm.errors import ConfigError
from prm.verifiers.sandbox.protocol import Sandbox

# Not imported before it is asked for.
BACKENDS = {
    "bwrap": ("prm.verifiers.sandbox.bwrap", "BwrapSandbox"),
    "vm": ("prm.verifiers.sandbox.vm", "VmSandbox"),
}


def make_sandbox(name: str, settings: Mapping[str, Any] | None = None) -> Sandbox:
    """A new sandbox; nothing is started before its first run.

    Raises:
        ConfigError: the name or a setting is unknown.
    """
    if name not in BACKENDS:
        raise ConfigError(f"sandbox {name!r} is unknown; there are {sorted(BACKENDS)}")
    module, cls = BACKENDS[name]
    try:
        return cast(Sandbox, getattr(importlib.import_module(module), cls)(**(settings or {})))
    except TypeError as err:
        raise ConfigError(f"sandbox {name!r}: {err}") from err


@functools.cache
def default_sandbox() -> Sandbox:
    """This process's bubblewrap, tested once."""
    return make_sandbox("bwrap")
