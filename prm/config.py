"""A job's settings: a frozen dataclass, read from YAML plus dotted overrides on the command line.

    config = parse(SampleConfig, "python -m data_gen.sample", __doc__)

Unknown keys, wrong types and missing keys are errors that name the key. The resolved settings
lie beside the output; `fingerprint` of those that change the result guards a resume.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prm.errors import ConfigError, MissingExtraError, PRMError

C = TypeVar("C")


def operational(default: Any, **kwargs: Any) -> Any:
    """A field that says how or where a job runs, not what comes out: it is no part of the hash."""
    if callable(default):
        return dataclasses.field(default_factory=default, metadata={"operational": True}, **kwargs)
    return dataclasses.field(default=default, metadata={"operational": True}, **kwargs)


def parse(
    cls: type[C],
    command: str,
    doc: str | None,
    argv: Sequence[str] | None = None,
    *,
    positional: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> C:
    """The settings from ``--config FILE`` and overrides; ``--help`` explains each.

    ``positional`` are the required fields that are given as bare words, in their order;
    ``flags`` the booleans, off by default, that ``--name`` alone turns on.

    Ends the process with exit code 2 and a message on wrong settings, as argparse does.
    """
    parser = _parser(cls, command, doc, positional, flags)
    try:
        return _instantiate(cls, parser, parser.parse_args(argv))
    except (ConfigError, _argument_error()) as error:
        sys.stderr.write(f"{command}: wrong settings: {error}\n")
        sys.stderr.write(f"try: {command} --help\n")
        raise SystemExit(2) from None


def run(job: Callable[[], object], command: str) -> None:
    """Call a job; an error of ours ends the process with code 1 and its message alone.

    Ctrl-C ends it with code 130, without a traceback.
    """
    try:
        job()
    except PRMError as error:
        sys.stderr.write(f"{command}: {type(error).__name__}: {error}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{command}: stopped; the same command goes on from here\n")
        raise SystemExit(130) from None


def load(cls: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """The settings of a file; ``overrides`` are command-line words such as ``--lr``, ``1e-4``.

    Raises:
        ConfigError: the file is absent or a key is unknown, missing or of the wrong type.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such settings file")
    parser = _parser(cls, "load", None)
    try:
        return _instantiate(cls, parser, parser.parse_args(["--config", str(path), *overrides]))
    except (ConfigError, _argument_error()) as error:
        raise ConfigError(f"{path}: {error}") from error


def resolved(config: Any) -> dict[str, Any]:
    """All settings as plain values."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def fingerprint(config: Any) -> str:
    """A short hash of the settings that change what a job makes."""
    return hashlib.sha256(json.dumps(_scientific(config), sort_keys=True).encode()).hexdigest()[:16]


def _scientific(config: Any) -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(config):
        if not field.metadata.get("operational"):
            value = getattr(config, field.name)
            values[field.name] = _scientific(value) if dataclasses.is_dataclass(value) else value
    return values


def _parser(
    cls: type[Any],
    command: str,
    doc: str | None,
    positional: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Any:
    jsonargparse = _jsonargparse()

    class Help(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):  # type: ignore[misc, name-defined]
        """Keep the lines of the description: they are commands, often."""

    parser = jsonargparse.ArgumentParser(
        prog=command,
        description=doc,
        exit_on_error=False,
        parser_mode="yaml",
        formatter_class=Help,
    )
    parser.add_argument("--config", action="config", help="YAML file with the settings below.")
    parser.add_class_arguments(cls, fail_untyped=True, instantiate=True, skip={*positional, *flags})
    hints, about = typing.get_type_hints(cls), _about(cls) if positional or flags else {}
    for name in positional:
        parser.add_argument(name, type=hints[name], help=about[name])
    for name in flags:
        yes = jsonargparse.ActionYesNo(yes_prefix="", no_prefix=None)
        parser.add_argument(f"--{name}", action=yes, default=False, help=about[name])
    return parser


def _about(cls: type[Any]) -> dict[str, str]:
    """The string under each field."""
    import docstring_parser  # comes with jsonargparse[signatures]

    found = docstring_parser.parse_from_object(cls).params
    return {field.arg_name: field.description or "" for field in found}


def _instantiate(cls: type[C], parser: Any, values: Any) -> C:
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint) and not hasattr(values[name], "__dict__"):
            raise ConfigError(f"{name} should hold settings of its own, found {values[name]!r}")
    try:
        done = parser.instantiate(values)
    except ValueError as error:
        # Of an error deep inside, jsonargparse makes a list of types with all the values.
        raise _own_error(error) from None
    return cls(**{field.name: done[field.name] for field in dataclasses.fields(cls)})  # type: ignore[arg-type]


def _own_error(error: BaseException) -> BaseException:
    """The error of ours that is behind another one; that one, if there is none."""
    one: BaseException | None = error
    while one is not None and not isinstance(one, ConfigError):
        one = one.__cause__ or one.__context__
    return one or error


def _jsonargparse() -> Any:
    try:
        import jsonargparse
    except ImportError as error:
        raise MissingExtraError(
            "jobs read their settings with jsonargparse: pip install 'stepwise-prm[train]'"
        ) from error
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return jsonargparse


def _argument_error() -> type[Exception]:
    return typing.cast(type[Exception], _jsonargparse().ArgumentError)
