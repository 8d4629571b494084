"""From places to pieces of sensible size: what is too long is divided, what is too short joined."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prm.errors import ConfigError
from prm.traces.corrections import is_hesitation
from prm.traces.cuts import Rank


@dataclasses.dataclass(frozen=True, slots=True)
class StepLimits:
    """How long a step should be, in characters: about four to a token, in Chinese one or two.

    Beyond ``max_chars`` a piece is divided where a line, a sentence that turns, any sentence or a
    clause begins. What has no such place (code, a formula, a table, one endless word) stays whole.
    """

    min_chars: int = 100
    """Shorter pieces are joined to the next one, or to the last before a heading or correction."""
    target_chars: int = 400
    """Where a piece must be divided, its parts are about as long as this."""
    max_chars: int = 800
    """Longer pieces are divided. Joining may pass it by ``min_chars``."""

    def __post_init__(self) -> None:
        """Check that the limits are in order."""
        if not 0 < self.min_chars <= self.target_chars <= self.max_chars:
            raise ConfigError(
                f"step limits should be 0 < min_chars <= target_chars <= max_chars, found {self}"
            )


# A line that only names what follows.
_TITLE = re.compile(r"#{1,6}[^\n]*|\*\*[^*\n]*+\*\*:?|[*_]{0,2}\w{1,8} \w{1,3}[.:)*_]{0,4}")


class Piece(NamedTuple):
    """A stretch of the text; ``rank`` is that of its beginning."""

    begin: int
    end: int
    rank: Rank


def find_pieces(text: str, ranks: Mapping[int, Rank], limits: StepLimits) -> list[Piece]:
    """The steps of the text, each with the blanks that follow it."""
    if not text.strip():
        return []
    first = len(text) - len(text.lstrip())
    begins = sorted({first, *(at for at, rank in ranks.items() if rank >= Rank.PARAGRAPH)})
    for rank in (Rank.TURN, Rank.SENTENCE, Rank.CLAUSE):
        places = sorted(at for at in ranks if ranks[at] >= rank)
        begins = _divide([*begins, len(text)], places, limits)
    ends = [*begins[1:], len(text)]
    pieces = [
        Piece(begin, end, ranks.get(begin, Rank.PARAGRAPH))
        for begin, end in zip(begins, ends, strict=True)
    ]
    return _join(text, pieces, limits)


def _divide(bounds: Sequence[int], places: Sequence[int], limits: StepLimits) -> list[int]:
    """The beginnings of the pieces, with more of them where a piece is too long."""
    begins: list[int] = []
    for begin, end in itertools.pairwise(bounds):
        begins.append(begin)
        if end - begin > limits.max_chars:
            inside = places[bisect.bisect_right(places, begin) : bisect.bisect_left(places, end)]
            begins.extend(_pack(begin, end, inside, limits))
    return begins


def _pack(begin: int, end: int, places: Sequence[int], limits: StepLimits) -> list[int]:
    """Some of the places, about ``target_chars`` apart, none close to an end."""
    chosen: list[int] = []
    last = begin
    for at in places:
        if end - at < limits.min_chars:
            break
        if at - begin >= limits.target_chars:
            # The place before may be nearer to the target, even if its part is shorter.
            is_nearer = (last - begin) + (at - begin) > 2 * limits.target_chars
            begin = last if is_nearer and last - begin >= limits.min_chars else at
            chosen.append(begin)
        last = at
    return chosen


def _join(text: str, pieces: Sequence[Piece], limits: StepLimits) -> list[Piece]:
    """Fewer pieces: a short one goes to its neighbour."""
    done: list[Piece] = []
    current = pieces[0]
    for piece in pieces[1:]:
        if _length(text, current) >= limits.min_chars:
            done.append(current)
            current = piece
            continue
        side = _side(text, current, piece.rank, bool(done))
        if side == "next":
            current = Piece(current.begin, piece.end, max(current.rank, piece.rank))
            continue
        if side == "last":
            done[-1] = done[-1]._replace(end=current.end)
        else:
            done.append(current)
        current = piece
    is_own = current.rank >= Rank.CORRECTION or _length(text, current) >= limits.min_chars
    if is_own or not done:
        return [*done, current]
    return [*done[:-1], done[-1]._replace(end=current.end)]


def _side(text: str, short: Piece, following: Rank, has_last: bool) -> str:
    """Where a short piece goes: to the "next" one, to the "last" one, or it stays "alone"."""
    content = text[short.begin : short.end].rstrip()
    if following < Rank.CORRECTION or is_hesitation(content) or _TITLE.fullmatch(content):
        return "next"
    if short.rank == Rank.HEADING:
        return "alone"
    if short.rank == Rank.CORRECTION:
        return "next" if following == Rank.CORRECTION else "alone"
    return "next" if not has_last or content.endswith((":", "：")) else "last"


def _length(text: str, piece: Piece) -> int:
    return len(text[piece.begin : piece.end].rstrip())
