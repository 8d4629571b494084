r"""Where a step may begin, and how much speaks for it.

The unit is the paragraph. What belongs to the paragraph before (a formula, a list, a table, code,
a sentence that goes on) makes a weaker place; so does a line break or the end of a sentence. A
correction at the beginning of a sentence makes a strong one wherever it stands: a PRM should not
give one score to a wrong claim and to its withdrawal.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from prm.traces.corrections import is_correction, is_turn


class Rank(enum.IntEnum):
    """How much speaks for a cut; from PARAGRAPH on it is always made."""

    CLAUSE = 0
    SENTENCE = 1
    TURN = 2
    """A sentence that turns to something new, a line break, or what belongs to the line before."""
    PARAGRAPH = 3
    CORRECTION = 4
    HEADING = 5


class Cuts(NamedTuple):
    """The rank of each place (offset of a character that is not blank), and the corrections."""

    ranks: Mapping[int, Rank]
    corrections: Sequence[int]


class _Line(NamedTuple):
    begin: int
    text: str
    is_after_blank: bool


# Items of a list are short: longer ones are steps with numbers.
_LONGEST_ITEM = 60
_NUMBER = re.compile(r"(\d{1,2})[.)][ \t]+\S")
_HEADING = re.compile(
    r"#{1,6}\s|\*\*[^*\n]{1,80}+\*\*[:.]?\s*+$|(?:\*\*)?(?:final )?answer\b\W{0,3}[:：]"
    r"|[*_]{0,2}(?:step|case|part|method|approach|phase|stage|attempt)\s{1,3}(?:\d{1,3}|[ivx]{1,4}|[A-Z])"
    r"\b\s?(?:[:.)*–—-]|$)"
    r"|第[一二三四五六七八九十\d]{1,3}步|步骤\s?[一二三四五六七八九十\d]{1,3}",
    re.IGNORECASE,
)
_BLOCK = re.compile(
    r"\$\$|\\\[|\\begin\{|\||```|~~~|[-*+•]\s|-{3}|\*{3}|=|\$[^$\n]{1,300}+\$[.,;]?$"
)
_GOES_ON = re.compile(
    r"[≤≥<>+−→⇒⟹∴,;)\]}，。；]|\\(?:implies|Rightarrow|Longrightarrow|therefore|le|ge|leq|geq|to|approx"
    r"|equiv)\b"
)
# What may stand before the first word of a line.
_MARKS = re.compile(
    r"(?:[#>*_•\s-]{1,12}+)?(?:step \d{1,3}\W{1,5}|\d{1,2}[.)]\s{1,3})?[*_]{0,3}", re.IGNORECASE
)
_SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+\s++(?=\S)|(?<![。！？…])[。！？]++[\"'”’）」*]*+\s*+(?=\S)"
)
_CLAUSE_END = re.compile(
    r"[,;—](?:\s++)(?=(?:but|so|and|then|wait|hm+|alternatively|therefore|which|because|since|or)\b)"
    r"|[，；]\s*+(?=\S)",
    re.IGNORECASE,
)
_LAST_WORD = re.compile(r"(?:^|[^A-Za-z0-9.])([A-Za-z]+(?:\.[A-Za-z]+)*|\d+)$")
_ABBREVIATION = re.compile(
    r"e\.g|i\.e|w\.r\.t|s\.t|cf|vs|eqs?|figs?|thm|prop|sec|pp?|approx|resp|viz|mrs?|ms|dr|st|prof",
    re.IGNORECASE,
)


def find_cuts(text: str, mask: bytearray) -> Cuts:
    """All places where a step may begin; ``mask`` says where none may."""
    ranks: dict[int, Rank] = {}
    corrections: set[int] = set()
    for at, rank, is_taken_back in [*_line_cuts(text, mask), *_sentence_cuts(text, mask)]:
        ranks[at] = max(rank, ranks.get(at, rank))
        if is_taken_back:
            corrections.add(at)
    for clause in _CLAUSE_END.finditer(text):
        if not mask[clause.end()]:
            ranks.setdefault(clause.end(), Rank.CLAUSE)
    return Cuts(ranks, sorted(corrections))


def _line_cuts(text: str, mask: bytearray) -> Iterator[tuple[int, Rank, bool]]:
    lines = _lines(text, mask)
    numbered = _numbered(lines)
    last = ""
    for i, line in enumerate(lines):
        marks = _MARKS.match(line.text)
        first_word = line.begin + (marks.end() if marks else 0)
        is_taken_back = is_correction(text, first_word)
        rank = numbered.get(i) or _rank(line, last)
        if is_taken_back:
            rank = max(rank, Rank.CORRECTION)
        yield line.begin, rank, is_taken_back
        last = line.text


def _rank(line: _Line, last: str) -> Rank:
    """The rank of a line without a number, after the line ``last``."""
    if _HEADING.match(line.text):
        return Rank.HEADING
    if not line.is_after_blank:
        return Rank.TURN
    if is_turn(line.text) and not last.endswith((":", "：")):
        return Rank.PARAGRAPH
    is_unfinished = last.endswith((":", ",", "：", "，"))
    goes_on = line.text[0].islower() or _GOES_ON.match(line.text) or _BLOCK.match(line.text)
    return Rank.TURN if is_unfinished or goes_on else Rank.PARAGRAPH


def _lines(text: str, mask: bytearray) -> list[_Line]:
    """The lines that are not blank and do not lie inside something."""
    lines: list[_Line] = []
    at, is_after_blank = 0, True
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        begin = at + len(line) - len(line.lstrip())
        if stripped and not mask[begin]:
            lines.append(_Line(begin, stripped, is_after_blank))
        is_after_blank = not stripped
        at += len(line)
    return lines


def _numbered(lines: Sequence[_Line]) -> dict[int, Rank]:
    """The lines "3. ..." by index: a step each, unless they are the short items of a list."""
    found = {i: int(m.group(1)) for i, line in enumerate(lines) if (m := _NUMBER.match(line.text))}
    ranks: dict[int, Rank] = {}
    last_number = 0
    for i, number in found.items():
        if i in ranks:
            continue
        run = _tight_run(lines, found, i)
        if _is_list(lines, run):
            ranks.update(dict.fromkeys(run, Rank.TURN))
        elif lines[i].is_after_blank or number in (1, last_number + 1):
            ranks.update(dict.fromkeys(run, Rank.HEADING))
        last_number = found[run[-1]]
    return ranks


def _tight_run(lines: Sequence[_Line], numbers: Mapping[int, int], first: int) -> list[int]:
    """The numbered lines from ``first`` on that follow each other and count upwards."""
    run = [first]
    while (
        numbers.get(run[-1] + 1) == numbers[run[-1]] + 1 and not lines[run[-1] + 1].is_after_blank
    ):
        run.append(run[-1] + 1)
    return run


def _is_list(lines: Sequence[_Line], run: Sequence[int]) -> bool:
    """Whether a sentence that ends with a colon introduces short items."""
    is_introduced = run[0] > 0 and lines[run[0] - 1].text.endswith((":", "：", ":**"))
    length = sum(len(lines[i].text) for i in run)
    return is_introduced and len(run) > 1 and length <= _LONGEST_ITEM * len(run)


def _sentence_cuts(text: str, mask: bytearray) -> Iterator[tuple[int, Rank, bool]]:
    for stop in _SENTENCE_END.finditer(text):
        at = stop.end()
        if mask[at] or _is_abbreviation(text, stop.start()):
            continue
        if not text[at].isalpha():
            yield at, Rank.SENTENCE, False
        elif is_correction(text, at):
            yield at, Rank.CORRECTION, True
        elif is_turn(text, at):
            yield at, Rank.TURN, False
        elif not text[at].islower():
            yield at, Rank.SENTENCE, False


def _is_abbreviation(text: str, stop: int) -> bool:
    """Whether the full stop belongs to the word or number before it: "e.g.", "3." of a list."""
    before = text[max(0, stop - 12) : stop]
    word = _LAST_WORD.search(before)
    if word is None or text[stop] != ".":
        return False
    if word.group(1).isdigit():
        line = before[: word.start(1)].rsplit("\n", 1)
        return not line[-1].strip() and (len(line) == 2 or stop <= 12)
    return _ABBREVIATION.fullmatch(word.group(1)) is not None
