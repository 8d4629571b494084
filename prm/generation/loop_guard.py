"""Find out while a text streams in that it repeats itself, so that the request can be stopped.

The verdict is a function of the text alone: the guard looks at the text at every 256th character,
however it was cut into pieces. Memory is bounded, and the time for a character is constant.

**Exact**: the text ends with a period, letter for letter, at least ``min_repeats`` times and
``min_characters`` long: a token, a line, a paragraph, a cycle of paragraphs, blanks.

**Stale**: the text is cut into sentences (or lines, or clauses of 240 characters), and each is

- *new*: never seen, or another number stands in it where numbers count;
- *familiar*: seen, but not ``min_repeats`` times; or a counter among few words. It says nothing;
- *stale*: seen ``min_repeats`` times, blanks aside, or seen so with a *counter* in it.

Stale characters add to a sum, new ones take off so many times their number that the sum grows only
while the share of new text is below ``max_new_share``; it never falls below 0. At
``stale_characters`` the text is a loop. So blanks, the order of the paragraphs and a sentence that
changes now and then do not matter.

"Case 17 fails. Case 18 fails." is enumeration, "Attempt 17: let me try again. Attempt 18: let me
try again." is a loop, and they look alike. Decided so: a number touching an operator (``= + ^ <``,
LaTeX, a table's bar) belongs to an equation and always counts. Any other is a counter when it
moves on by the same step as the time before, and five words a number make it stale: that much
prose around a number says the same thing again. A counter among fewer words is what enumeration by
hand looks like, and is never held against the text.

Missed on purpose: bare counting (1, 2, 3, ...), counters among few words ("Attempt 57: again"),
equations with a running number, numbers in words. Missed too: cycles of more than about 500
sentences. Stopped though perhaps meant: one sentence of prose with a running number 70 times on
end with no computation between; a figure of more than 1,000 equal characters or rows.
"""

from __future__ import annotations

import dataclasses
import operator
import re

from prm.errors import ConfigError

BLOCK = 256
"""Characters between two looks at the text."""
ANCHOR = 48
"""Characters at the end of the text that are looked for in the text before."""
CANDIDATES = 8
"""Earlier places of the anchor that are tried as periods: a period may contain short ones."""
LONGEST = 240
"""Characters of a sentence at most; a longer one is cut between clauses or words."""
REMEMBERED = 512
"""Sentences of one generation; two generations are kept."""
WORDS_PER_COUNTER = 5
"""From this many words a number on, a sentence with a counter is prose, below it is data."""

# One blank only: where a block ends between two blanks must not matter.
# The three are the full stop, exclamation and question mark of Chinese.
_END = re.compile(r"[\u3002\uff01\uff1f]|(?<=[.!?])\s|\n")
_OPERATORS = r"=+*/^<>\\$&|\u00d7\u00f7\u00b7%\u2264\u2265\u2261{}"
# Numbers that touch neither letters nor operators; blanks are single where this is used.
_COUNTER = re.compile(
    rf"(?<![\w.{_OPERATORS}])(?<![{_OPERATORS}] )"
    rf"(\d++)(?:st|nd|rd|th)?+(?![\w{_OPERATORS}]| [{_OPERATORS}]|\.\d)",
    re.ASCII,
)

_WORD = re.compile(r"[^\W\d_]{2,}")

_Counters = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class LoopGuardConfig:
    """When a text counts as a loop. Lengths are in characters; a token has three or four."""

    enabled: bool = True
    """False = no text is ever stopped."""
    min_repeats: int = 4
    """Times that something is said before it counts as repeated; at least 2."""
    min_characters: int = 1024
    """Exact repetition is stopped from this length on (short periods; long ones by repeats)."""
    max_period: int = 4096
    """Longest exact period; 0 = do not look for exact periods."""
    stale_characters: int = 4096
    """Text with nothing new in it is stopped at this length; 0 = do not look at sentences."""
    max_new_share: float = 0.1
    """Share of new characters up to which a text still counts as stale, in (0, 0.5]."""

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        if self.min_repeats < 2:
            raise ConfigError(f"min_repeats is {self.min_repeats}; once is no repetition")
        if self.min_characters < BLOCK:
            raise ConfigError(f"min_characters is {self.min_characters}, below {BLOCK}")
        for name in ("max_period", "stale_characters"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; 0 turns it off")
        if not 0 < self.max_new_share <= 0.5:
            raise ConfigError(f"max_new_share is {self.max_new_share}, not in (0, 0.5]")


class LoopGuard:
    """Reads one text piece by piece.

    ``reason`` is "" or words for the log; ``loop_start`` is where the repeated part began and
    ``loop_stop`` where the text is to be cut (offsets, -1 while no loop is found).
    """

    def __init__(self, config: LoopGuardConfig) -> None:
        """Start at the beginning of a text; a guard reads one only."""
        self.reason = ""
        self.loop_start = -1
        self.loop_stop = -1
        self._config = config
        self._pieces: list[str] = []
        self._waiting = 0
        self._text = ""
        self._read = 0
        self._novelty = _Novelty(config)
        self._kept = max(config.min_repeats * config.max_period, config.min_characters) + BLOCK
        self._is_idle = not config.enabled

    def feed(self, piece: str) -> bool:
        """Read on; True once a loop is found, and from then on."""
        if self._is_idle:
            return self.loop_stop >= 0
        self._pieces.append(piece)
        self._waiting += len(piece)
        return self._waiting >= BLOCK and self._look()

    def _look(self) -> bool:
        """Take the whole blocks that have come in, up to the first that completes a loop."""
        text = "".join(self._pieces)
        for begin in range(0, len(text) - BLOCK + 1, BLOCK):
            block = text[begin : begin + BLOCK]
            self._text += block
            if len(self._text) > 2 * self._kept:
                self._text = self._text[-self._kept :]
            self._read += BLOCK
            if self._find_period() or self._find_stale(block):
                self.loop_stop = self._read
                self._is_idle = True
                self._pieces, self._text, self._novelty = [], "", _Novelty(self._config)
                return True
        self._pieces = [text[len(text) - len(text) % BLOCK :]]
        self._waiting = len(self._pieces[0])
        return False

    def _find_period(self) -> bool:
        """Does the text end with an exact period, often and long enough?"""
        text, size, config = self._text, len(self._text), self._config
        if not config.max_period or size < config.min_characters:
            return False
        place = size - ANCHOR
        lowest, anchor = max(0, place - config.max_period), text[place:]
        for _ in range(CANDIDATES):
            place = text.rfind(anchor, lowest, place + ANCHOR - 1)
            if place < 0:
                return False
            period = size - ANCHOR - place
            need = max(config.min_repeats * period, config.min_characters)
            if need <= size and text[size - need + period :] == text[size - need : size - period]:
                self._describe_period(period, size - need)
                return True
        return False

    def _describe_period(self, period: int, begin: int) -> None:
        text = self._text
        while begin > 0 and text[begin - 1] == text[begin - 1 + period]:
            begin -= 1
        self.loop_start = self._read - len(text) + begin
        times = (len(text) - begin) // period
        lines = text[-period:].count("\n")
        what = {0: "a period", 1: "a line"}.get(lines, f"a block of {lines} lines and")
        of = "" if lines > 1 else "of "
        self.reason = f"{what} {of}{period} characters {times} times"

    def _find_stale(self, block: str) -> bool:
        """Has the text said nothing new for long enough?"""
        novelty = self._novelty
        if not self._config.stale_characters or not novelty.read(block):
            return False
        self.loop_start = novelty.stale_start
        self.reason = f"{self._read - novelty.stale_start} characters with next to nothing new"
        return True


def find_loop(text: str, config: LoopGuardConfig) -> int | None:
    """The offset at which the guard stops this text, or None: what is kept is ``text[:offset]``."""
    guard = LoopGuard(config)
    return guard.loop_stop if guard.feed(text) else None


class _Novelty:
    """Weighs the sentences of a text: new, familiar or stale (see the head of this file)."""

    def __init__(self, config: LoopGuardConfig) -> None:
        self.stale_start = 0
        self._stale = 0.0
        self._limit = config.stale_characters
        self._penalty = (1 - config.max_new_share) / config.max_new_share
        self._repeats = config.min_repeats - 1
        self._pending = ""
        self._offset = 0
        self._memory = _Memory()

    def read(self, block: str) -> bool:
        """Weigh the sentences that this block completes; True when the limit is reached."""
        text, begin = self._pending + block, 0
        while (end := _sentence_end(text, begin)) > begin:
            if self._add(text[begin:end], self._offset + begin):
                return True
            begin = end
        self._pending = text[begin:]
        self._offset += begin
        return False

    def _add(self, sentence: str, offset: int) -> bool:
        words = sentence.split()
        weight = self._weight(" ".join(words)) if words else 0.0
        if weight > 0 and not self._stale:
            self.stale_start = offset
        self._stale = max(0.0, self._stale + weight * len(sentence))
        return self._stale >= self._limit

    def _weight(self, text: str) -> float:
        """1 for a stale sentence, 0 for a familiar one, minus the penalty for a new one."""
        times, _ = self._memory.add(hash(text), ())
        if times >= self._repeats:
            return 1.0
        words_between = _COUNTER.split(text)
        counters = tuple(map(int, words_between[1::2]))
        if counters:
            times_said, is_steady = self._memory.add(hash(tuple(words_between[::2])), counters)
            if times_said >= self._repeats and is_steady:
                return float(len(_WORD.findall(text)) >= WORDS_PER_COUNTER * len(counters))
        return 0.0 if times else -self._penalty


def _sentence_end(text: str, begin: int) -> int:
    """Where the sentence that begins here ends, or ``begin`` while its end has not come in."""
    if end := _END.search(text, begin, begin + LONGEST):
        return end.end()
    if len(text) - begin < LONGEST:
        return begin
    limit = begin + LONGEST
    place = max(text.rfind(", ", begin, limit), text.rfind("; ", begin, limit))
    return (place if place >= 0 else text.rfind(" ", begin, limit)) + 1 or limit


class _Memory:
    """What was said how often, and the numbers in it; forgets what long was not said again.

    Keys are hashes: the texts themselves would take ten times the room.
    """

    def __init__(self) -> None:
        self._young: dict[int, tuple[int, _Counters, _Counters]] = {}
        self._old: dict[int, tuple[int, _Counters, _Counters]] = {}

    def add(self, key: int, counters: _Counters) -> tuple[int, bool]:
        """Times that it was said before; do its numbers make the same step as the last time?"""
        times, last, last_step = (
            self._young.get(key) or self._old.get(key) or (0, counters, counters)
        )
        step = tuple(map(operator.sub, counters, last))
        self._young[key] = times + 1, counters, step
        if len(self._young) >= REMEMBERED:
            self._young, self._old = {}, self._young
        return times, step == last_step
