"""Find the program in what a model wrote."""

from __future__ import annotations

import re

MAX_PROGRAM = 65_536
"""Characters; nothing longer is run."""

MAX_TEXT = 1_000_000
"""Characters; in nothing longer a program is looked for."""

# It matches all that begins like a fence: a condition on its end would be tried at each character.
_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[ \t]*(.*)$", re.MULTILINE)
_LANGUAGE = re.compile(r"[\w+#.-]*")
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
    fences = [fence for fence in _FENCE.finditer(text) if "`" not in fence[3]]
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
        elif fence[2].startswith(opened[2]) and not _language(fence):
            body = text[opened.end() + 1 : fence.start()]
            if _language(opened) in _PYTHON and body.strip():
                blocks.append(_dedent(body, opened))
            opened = None
    return blocks


def _language(fence: re.Match[str]) -> str:
    found = _LANGUAGE.match(fence[3])
    return found[0].lower() if found else ""


def _dedent(body: str, fence: re.Match[str]) -> str:
    """A block inside a list is indented like its fence."""
    return "\n".join(line.removeprefix(fence[1]) for line in body.split("\n"))
