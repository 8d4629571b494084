"""The text of the driver that runs inside every sandbox, joined from two files of this package."""

from __future__ import annotations

import ast
import functools
from importlib import resources


@functools.cache
def bootstrap_source() -> str:
    """What ``python -I -S -B -c`` is given, with the record descriptor's number behind it.

    `values.py` and `inside.py`, without docstrings and without the import that joins them here.
    """
    folder = resources.files("prm.verifiers.sandbox")
    body: list[ast.stmt] = []
    for name in ("values.py", "inside.py"):
        body += ast.parse(folder.joinpath(name).read_text(encoding="utf-8")).body
    body = [statement for statement in body if not _is_ours(statement)]
    tree = ast.Module([*ast.parse("from __future__ import annotations").body, *body], [])
    _drop_docstrings(tree)
    return ast.unparse(tree) + "\nmain()\n"


def _is_ours(statement: ast.stmt) -> bool:
    module = statement.module or "" if isinstance(statement, ast.ImportFrom) else ""
    return module == "__future__" or module.partition(".")[0] == "prm"


def _drop_docstrings(tree: ast.Module) -> None:
    """Each run compiles this text, so what only people read stays out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef):
            node.body = [
                child
                for child in node.body
                if not (
                    isinstance(child, ast.Expr)
                    and isinstance(child.value, ast.Constant)
                    and isinstance(child.value.value, str)
                )
            ]
