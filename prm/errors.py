"""The errors that this package raises, each also a kind of the standard error that it refines.

    PRMError
    +-- ConfigError      (ValueError)    an unknown key, a wrong type, settings that contradict
    +-- RecordError      (ValueError)    a line that is not the record that it should be
    +-- StoreError       (RuntimeError)  a folder written by another run, or damaged
    +-- SpecError        (ValueError)    a scorer folder without a usable prm_spec.json
    +-- EncodingError    (ValueError)    a problem or solution that cannot be scored
    |   +-- TooLongError                 more tokens than the model or the setting allows
    +-- GenerationError  (RuntimeError)  a generator that could not do what it was asked
    |   +-- BudgetError                  the next request might pass the budget: nothing was lost
    +-- TrainingError    (RuntimeError)  a run that must not go on (world size, NaN, no data)
    +-- SandboxUnavailable (RuntimeError) no sound sandbox on this machine; nothing was run
    +-- MissingExtraError (ImportError)  an optional dependency is absent

Every message says what was found, where (file, line, id) and what to do.
"""


class PRMError(Exception):
    """Base of all errors of this package."""


class ConfigError(PRMError, ValueError):
    """A job's settings are wrong: unknown key, wrong type or contradiction."""


class RecordError(PRMError, ValueError):
    """A line of a data file is not the record that it should be."""


class StoreError(PRMError, RuntimeError):
    """A store was written by another configuration, or is damaged."""


class SpecError(PRMError, ValueError):
    """A scorer folder has no spec, or one that this version cannot use."""


class EncodingError(PRMError, ValueError):
    """A problem or solution cannot be turned into tokens for scoring."""


class TooLongError(EncodingError):
    """The encoded solution is longer than the model or the setting allows."""


class GenerationError(PRMError, RuntimeError):
    """A generator could not do what it was asked."""


class BudgetError(GenerationError):
    """The budget leaves no room for the next request; what was done is kept."""


class TrainingError(PRMError, RuntimeError):
    """A training run must not go on."""


class SandboxUnavailable(PRMError, RuntimeError):
    """Programs cannot be run safely here, and they are run in no other way.

    ``reason`` says what was found, ``how_to_fix`` what to do.
    """

    def __init__(self, reason: str, how_to_fix: str) -> None:
        """Join both in the message."""
        super().__init__(f"no sound sandbox: {reason}; {how_to_fix}")
        self.reason = reason
        self.how_to_fix = how_to_fix


class MissingExtraError(PRMError, ImportError):
    """An optional dependency is absent; the message names the extra that brings it."""
