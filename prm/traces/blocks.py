r"""Where a text must not be cut: in code, formulas, tables and brackets.

A mask has one byte a character; ``mask[i]`` says that no step may begin at ``i``. Everything is
found in one pass over the delimiters. A delimiter without a partner, or whose partner is too far
away, protects nothing: one stray ``$`` must not glue the rest of a trace together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# How long a protected piece may be, in characters, by what opens it.
_LONGEST_CODE = 20_000
_LONGEST_CUT_OFF_CODE = 4_000
_LONGEST_ENVIRONMENT = 8_000
_LONGEST_DISPLAY = 2_000
_LONGEST_INLINE = 400

_FENCE = re.compile(r"^[ \t>]*+(```+|~~~+)([^\n`]*+)$", re.MULTILINE)
_BACKTICKS = re.compile(r"`++|\n")
_DELIMITER = re.compile(
    r"\\\\|\\[$\[\]()]|\$\$|\$|\\(?:begin|end)\{[A-Za-z]{1,20}\*?\}|\\[{}]|[()\[\]{}（）]"
)
_PROSE = re.compile(r"(?<![\\A-Za-z])[a-z]{2,} [a-z]{2,} [a-z]{2,}(?![A-Za-z])")
_TEXT_IN_FORMULA = re.compile(r"\\(?:text|mbox|textbf|mathrm|operatorname)\{[^{}]*+\}")
_PAIRS = {"\\]": "\\[", "\\)": "\\("}
_BRACKETS = {")": "(", "]": "(", "）": "(", "}": "{"}


def code_mask(text: str) -> bytearray:
    """The characters inside closed code blocks and inline code."""
    mask = bytearray(len(text))
    for begin, end in [*code_blocks(text), *_inline_code(text)]:
        _protect(mask, begin, end)
    return mask


def no_cut_mask(text: str) -> bytearray:
    """The places where no step may begin."""
    mask = code_mask(text)
    last = _open_block(text)
    if last is not None and len(text) - last <= _LONGEST_CUT_OFF_CODE:
        _protect(mask, last, len(text))
    for begin, end in [*_formulas(text, mask), *_tables(text)]:
        _protect(mask, begin, end)
    return mask


def code_blocks(text: str) -> Iterator[tuple[int, int]]:
    """The fenced blocks. A second fence with a language begins anew: the first was left open."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        has_info = bool(fence.group(2).strip())
        if opened is None or has_info or not fence.group(1).startswith(opened.group(1)):
            opened = fence if opened is None or has_info else opened
            continue
        if fence.end() - opened.start() <= _LONGEST_CODE:
            yield opened.start(1), fence.end()
        opened = None


def _open_block(text: str) -> int | None:
    """Where a code block begins that the end of the text cuts off."""
    closed_until = max((end for _, end in code_blocks(text)), default=0)
    fences = [f.start(1) for f in _FENCE.finditer(text) if f.start() >= closed_until]
    return fences[-1] if fences else None


def _inline_code(text: str) -> Iterator[tuple[int, int]]:
    """Code between runs of as many backticks, on one line."""
    opened: re.Match[str] | None = None
    for run in _BACKTICKS.finditer(text):
        if run.group() == "\n":
            opened = None
        elif opened is None:
            opened = run
        elif len(run.group()) == len(opened.group()):
            yield opened.start(), run.end()
            opened = None


class _Formulas:
    """The state of one pass: what is open, and where it began."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.opened: dict[str, int] = {}
        self.stacks: dict[str, list[int]] = {}

    def close(self, begin: int, end: int) -> tuple[int, int] | None:
        """What the delimiter at begin..end completes, if anything."""
        token = self.text[begin:end]
        if token in ("$", "$$"):
            return self._dollar(token, begin, end)
        if token in _PAIRS:
            start = self.opened.pop(_PAIRS[token], None)
            return self._within(start, end, _LONGEST_DISPLAY)
        if token in ("\\[", "\\("):
            self.opened[token] = begin
        elif token.startswith("\\begin"):
            self.stacks.setdefault(token[len("\\begin") :], []).append(begin)
        elif token.startswith("\\end"):
            return self._pop(token[len("\\end") :], end, _LONGEST_ENVIRONMENT)
        elif token in _BRACKETS:
            return self._pop(_BRACKETS[token], end, _LONGEST_INLINE)
        elif token in ("(", "[", "{", "（"):
            key = "{" if token == "{" else "("
            # Half-open intervals: a round bracket may close a square one.
            self.stacks.setdefault(key, []).append(begin)
        return None

    def _pop(self, key: str, end: int, limit: int) -> tuple[int, int] | None:
        stack = self.stacks.get(key)
        return self._within(stack.pop(), end, limit) if stack else None

    def _within(self, start: int | None, end: int, limit: int) -> tuple[int, int] | None:
        return (start, end) if start is not None and end - start <= limit else None

    def _dollar(self, token: str, begin: int, end: int) -> tuple[int, int] | None:
        """A formula between dollars; prose between them means that a dollar was a price."""
        start = self.opened.pop(token, None)
        limit = _LONGEST_INLINE if token == "$" else _LONGEST_DISPLAY
        if start is not None and end - start <= limit:
            content = self.text[start + len(token) : begin]
            is_tight = token == "$$" or not (content[-1:].isspace() or "\n\n" in content)
            if is_tight and not _PROSE.search(_TEXT_IN_FORMULA.sub("", content)):
                return start, end
        if token == "$$" or not self.text[end : end + 1].isspace():
            self.opened[token] = begin
        return None


def _formulas(text: str, in_code: bytearray) -> Iterator[tuple[int, int]]:
    """Formulas, LaTeX environments and what stands in brackets, outside code."""
    state = _Formulas(text)
    for token in _DELIMITER.finditer(text):
        if not in_code[token.start()]:
            found = state.close(*token.span())
            if found is not None:
                yield found


def _tables(text: str) -> Iterator[tuple[int, int]]:
    """Runs of lines that begin with a bar."""
    begin: int | None = None
    at = 0
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("|"):
            begin = at if begin is None else begin
        elif begin is not None:
            yield begin, at
            begin = None
        at += len(line)
    if begin is not None:
        yield begin, at


def _protect(mask: bytearray, begin: int, end: int) -> None:
    """Forbid a cut inside; one at the very beginning stays possible."""
    mask[begin + 1 : end] = b"\x01" * max(0, end - begin - 1)
