"""Other libraries, as a user of our commands should meet them: quiet, and with clear errors."""

from __future__ import annotations

import warnings
from typing import Any

from prm.errors import ConfigError


def quieten_libraries() -> None:
    """Drop what concerns libraries with each other; for our commands, not for use as a library."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # peft asks transformers under an old name.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a folder or hub id; no code from there is run.

    Raises:
        ConfigError: there is none, or the hub cannot be reached.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {path!r} cannot be loaded: it should be a folder with a model, a hub id (is "
            f'the hub reached from here?) or "embedded". {str(error).splitlines()[0]:.200}'
        ) from error
