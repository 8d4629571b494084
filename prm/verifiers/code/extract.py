"""Find the program in what a model wrote."""

from __future__ import annotations

import re

MAX_PROGRAM = 65_536
"""Characters; nothing longer is run."""

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = {"", "py", "python", "python3", "py3"}
# A line that begins a statement; prose seldom begins so.
_STATEMENT = re.compile(
    r"^(?:(?:async )?def |class |from [\w.]+ import |import [\w.]+|(?:for|while|if|with) .*:\s*$"
    r"|print\(|@\w|[A-Za-z_]\w*(?:, *\w+)* *[-+*/]?= )",
    re.MULTILINE,
)


def extract_program(text: str, entry: str | None = None) -> str | None:
    """The last closed block of Python in the text, or None.

    Blocks fenced without a language count as Python. With an ``entry``, the last block that
    defines it comes first: what follows it is an example of use. A text without any fence is taken
    whole when it looks like a program.
    """
    fences = list(_FENCE.finditer(text))
    if not fences:
        return text.strip("\n") if _STATEMENT.search(text) else None
    blocks = _blocks(text, fences)
    if entry is not None:
        name = re.escape(entry.partition(".")[0])
        defines = re.compile(rf"^(?:(?:async )?def|class) +{name}\b|^{name} *=", re.MULTILINE)
        blocks = [block for block in blocks if defines.search(block)] or blocks
    return blocks[-1] if blocks else None


def _blocks(text: str, fences: list[re.Match[str]]) -> list[str]:
    """The closed blocks of Python, in order; a fence ends at one as long or longer."""
    blocks: list[str] = []
    opened: re.Match[str] | None = None
    for fence in fences:
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2]:
            body = text[opened.end() + 1 : fence.start()]
            if opened[2].lower() in _PYTHON and body.strip():
                blocks.append(_dedent(body, opened))
            opened = None
    return blocks


def _dedent(body: str, fence: re.Match[str]) -> str:
    """A block inside a list is indented like its fence."""
    indent = fence[0][: len(fence[0]) - len(fence[0].lstrip())]
    return "\n".join(line.removeprefix(indent) for line in body.split("\n"))
