"""Bars and warnings of other libraries that tell a user of our commands nothing."""

from __future__ import annotations

import warnings


def quieten_libraries() -> None:
    """Drop what concerns libraries with each other; for our commands, not for use as a library."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # peft asks transformers under an old name.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
