r"""Steps of a program: plan lines and blocks, as runs of whole lines.

>>> split_program("# Step 1: read.\nn = int(input())\n# Step 2: print.\nprint(2 * n)")
['# Step 1: read.\nn = int(input())', '# Step 2: print.\nprint(2 * n)']

A step of the code is a plan line (a comment such as ``# Step 2: ...`` or ``# 2. ...``) with the
code under it, or a block: simple statements without a blank line or comment between them, or one
compound statement (``for``, ``if``, ``while``, ``with``, ``try``) as a whole. Bodies of functions
and classes are cut like the module. In a run of plan lines each is a step.

A step never begins inside brackets, a string or a continued line, and no step ends at a header
without its body: what is kept of a program can be continued, and its statements are whole.
Headers, imports, docstrings, and comments that are no plan have nothing to judge: they belong to
the step that follows. Around fenced code each line of prose is a step, but one that ends with a
colon belongs to what it introduces; all that follows the last block of code, which can change no
program any more, belongs to the last step. Fences are read as `prm.verifiers.code` reads them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

_Kind = Literal["prose", "open", "code", "block", "close", "after"]
"""``block``: inside a fenced block that is no Python."""

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^`]*")
_PYTHON = {"", "py", "python", "python3", "py3"}
# As the verifier recognizes a program that nobody fenced.
_STATEMENT = re.compile(
    r"^(?:(?:async )?def |class |from [\w.]+ import |import [\w.]+|(?:for|while|if|with) .*:\s*$"
    r"|print\(|@\w|[A-Za-z_]\w*(?:, *\w+)* *[-+*/]?= )",
    re.MULTILINE,
)
_QUIET_OR_BRACKET = re.compile(
    r'#[^\n]*|"""(?:[^\\]|\\(?:.|\Z))*?(?:"""|\Z)'
    r"|'''(?:[^\\]|\\(?:.|\Z))*?(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*+"?' + r"|'(?:[^'\\\n]|\\.)*+'?|\\\n|[()\[\]{}]",
    re.DOTALL,
)
_BREAK = re.compile(r"\n")
_PLAN = re.compile(r"#+\s*(?:step\s*\d|\d+[.):])", re.IGNORECASE)
_HEADER = re.compile(
    r"(?:async[ \t]+)?(?P<word>def|class|for|while|if|with|try|match(?=[ \t]+\S.*:))\b"
)
_CLAUSE = re.compile(r"(?:else|elif|except|finally)\b|case[ \t]+\S.*:")
_MAIN = re.compile(r"if\s+__name__\b")
_EMPTY = re.compile(r"""(?:import|from|def|class|async[ \t]+def)\b|@|[rRuU]?(?:"{3}|'{3})""")
"""Statements without anything to judge; a string that stands alone is a docstring."""


def split_program(text: str) -> list[str]:
    """The steps of a text with a program; ``join_steps`` gives the text back.

    A text without any step (blank) has none.
    """
    begins = program_begins(text)
    if not begins:
        return []
    ends = [begin - 1 for begin in begins[1:]] + [len(text)]
    return [text[a:b] for a, b in zip([0, *begins[1:]], ends, strict=True)]


def program_begins(text: str) -> list[int]:
    """Where the steps begin: offsets of lines, the first 0; empty for a blank text."""
    if not text.strip():
        return []
    walk = _Walk()
    begins = [line.begin for line in _lines(text) if walk.begins_step(line)]
    return [0, *begins]


class _Line(NamedTuple):
    """A line with something on it, where a statement may begin if it is code.

    ``is_clause``: it goes on with a statement (``else``, ``except``). Of a comment, it and the
    ``indent`` are those of the code under it.
    """

    begin: int
    text: str
    kind: _Kind
    indent: int
    is_clause: bool
    is_after_blank: bool


@dataclasses.dataclass
class _Walk:
    """What is known after some lines: the open headers, and what the step so far has in it."""

    headers: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    has_content: bool = False
    plan_run: int = 0
    is_attached: bool = False
    """The line before belongs to the next: a comment, a decorator."""
    after_header: int | None = None
    """The indent of the header that the line before was."""

    def begins_step(self, line: _Line) -> bool:
        """Whether a step begins here; goes on past the line."""
        if line.kind == "code":
            found = self._may_begin(line) and self.has_content
            self.has_content = (self.has_content and not found) or _has_content(line.text)
            self._pass(line)
            return found
        found = line.kind in ("prose", "open") and self.has_content
        self.headers, self.plan_run, self.is_attached = [], 0, False
        self.after_header = None
        if line.kind == "open":
            self.has_content = False
        elif line.kind != "after":
            self.has_content = not line.text.rstrip().endswith(":") or line.kind != "prose"
        return found

    def _may_begin(self, line: _Line) -> bool:
        is_plan, is_comment = _is_plan(line.text), line.text.startswith("#")
        open_headers = [word for indent, word in self.headers if indent < line.indent]
        is_first = self.after_header is not None and line.indent > self.after_header
        closed = {"try"} if is_plan else {"", "try"}
        if line.is_clause or closed.intersection(open_headers):
            return False
        if is_first and open_headers[-1:] != ["def"]:
            return False
        if is_plan or (self.plan_run > 1 and not is_comment):
            return True
        if self.is_attached:
            return False
        ends_compound = len(open_headers) < len(self.headers)
        is_new = is_comment or ends_compound or _HEADER.match(line.text) is not None
        return is_new or line.text.startswith("@") or line.is_after_blank

    def _pass(self, line: _Line) -> None:
        if line.text.startswith("#"):
            self.plan_run = self.plan_run + 1 if _is_plan(line.text) else self.plan_run
            self.is_attached = True
            return
        self.headers = [one for one in self.headers if one[0] < line.indent]
        self.plan_run, self.after_header = 0, None
        self.is_attached = line.text.startswith("@")
        header = _HEADER.match(line.text)
        if header or line.is_clause:
            self.after_header = line.indent
            self.headers.append((line.indent, _opens(line.text, header)))


def _opens(text: str, header: re.Match[str] | None) -> str:
    """What the header lets be cut: "def" its body, "" its plan lines, "try" nothing."""
    word = header["word"] if header else ""
    if word in ("def", "class") or _MAIN.match(text):
        return "def"
    # A try without its except is no statement, nor is a match without a case.
    return "try" if word in ("try", "match") else ""


def _is_plan(text: str) -> bool:
    return _PLAN.match(text) is not None


def _has_content(text: str) -> bool:
    return _is_plan(text) or not (text.startswith("#") or _EMPTY.match(text))


def _lines(text: str) -> list[_Line]:
    """The lines that are not blank, without those inside a statement."""
    kinds = _kinds(text)
    held = _held(text, kinds)
    found: list[_Line] = []
    is_after_blank = False
    for begin, content, kind in kinds:
        stripped = content.strip()
        if stripped and begin not in held:
            indent = len(content.expandtabs()) - len(content.expandtabs().lstrip())
            is_clause = _CLAUSE.match(stripped) is not None
            found.append(_Line(begin, stripped, kind, indent, is_clause, is_after_blank))
        is_after_blank = not stripped
    return _with_code_below(found)


def _with_code_below(lines: list[_Line]) -> list[_Line]:
    found: list[_Line] = []
    indent, is_clause = 0, False
    for line in reversed(lines):
        if line.kind == "code" and line.text.startswith("#"):
            line = line._replace(indent=indent, is_clause=is_clause)
        indent, is_clause = line.indent, line.is_clause
        found.append(line)
    return found[::-1]


def _kinds(text: str) -> list[tuple[int, str, _Kind]]:
    """Offset, content and kind of each line."""
    rows: list[tuple[int, str, _Kind]] = []
    begin, fence, last = 0, "", -1
    is_fenced = any(_FENCE.fullmatch(line) for line in text.split("\n"))
    inside: _Kind = "prose" if is_fenced or not _STATEMENT.search(text) else "code"
    for number, content in enumerate(text.split("\n")):
        match = _FENCE.fullmatch(content)
        kind: _Kind = inside
        if match and not fence:
            fence, kind = match[1], "open"
            inside = "code" if match[2].lower() in _PYTHON else "block"
        elif match and match[1].startswith(fence) and not match[2]:
            last = number if inside == "code" else last
            fence, inside, kind = "", "prose", "close"
        elif inside == "code":
            last = number
        rows.append((begin, content, kind))
        begin += len(content) + 1
    after: _Kind = "after"
    return [
        (at, content, after if 0 <= last < number else kind)
        for number, (at, content, kind) in enumerate(rows)
    ]


def _held(text: str, kinds: list[tuple[int, str, _Kind]]) -> set[int]:
    """Offsets of the lines of code that go on with a bracket, a string or a line before."""
    held: set[int] = set()
    begin: int | None = None
    for at, _, kind in [*kinds, (len(text) + 1, "", "after")]:
        if kind == "code":
            begin = at if begin is None else begin
        elif begin is not None:
            held.update(begin + inner for inner in _inner_lines(text[begin : at - 1]))
            begin = None
    return held


def _inner_lines(code: str) -> Iterator[int]:
    """Offsets of the lines inside statements. A bracket that is never closed holds all the rest."""
    depth = at = 0
    for token in _QUIET_OR_BRACKET.finditer(code):
        if depth:
            yield from _after_breaks(code, at, token.start())
        yield from _after_breaks(code, token.start(), token.end())
        depth += (token[0] in "([{") - (token[0] in ")]}")
        depth, at = max(depth, 0), token.end()
    if depth:
        yield from _after_breaks(code, at, len(code))


def _after_breaks(code: str, begin: int, end: int) -> Iterator[int]:
    """The offsets behind the line breaks in ``code[begin:end]``."""
    return (match.end() for match in _BREAK.finditer(code, begin, end))
