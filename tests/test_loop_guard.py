import gzip
import json
import random
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from prm.errors import ConfigError
from prm.generation.loop_guard import LoopGuard, LoopGuardConfig, find_loop
from tests.loops import legitimate, looping

CONFIG = LoopGuardConfig()

# Found in the real solutions, and each read by a person: all of them are stuck to their end.
TRUE_LOOPS = {
    "game24-970/35",
    "game24-970/71",
    "game24-970/76",
    "gsm8k-test-48/2",
    "gsm8k-test-926/3",
    "math500-qwen3-15/25",
    "bbm-dyck_languages-267",
    "parc-gsm8k-negatives-6",
    "parc-gsm8k-negatives-49",
    "parc-orca_math-negatives-35",
    "parc-orca_math-negatives-37",
    "parc-orca_math-negatives-43",
    "parc-orca_math-negatives-46",
}


def fed(text: str, cuts: Iterator[int], config: LoopGuardConfig = CONFIG) -> LoopGuard:
    """A guard that has read the text in pieces of these lengths, as long as it wanted to."""
    guard, place = LoopGuard(config), 0
    while place < len(text):
        end = place + next(cuts)
        if guard.feed(text[place:end]):
            break
        place = end
    return guard


def same(length: int) -> Iterator[int]:
    while True:
        yield length


def uneven(seed: int) -> Iterator[int]:
    dice = random.Random(seed)
    while True:
        yield dice.choice([0, 1, 2, 3, 4, 7, 40, 255, 256, 257, 700])


@pytest.mark.parametrize("name", looping.TEXTS)
def test_a_loop_is_stopped_soon(name):
    text, allowed = looping.TEXTS[name]
    start = len(legitimate.OPENING)
    guard = fed(legitimate.OPENING + text, same(4))
    assert start < guard.loop_stop <= start + allowed
    # A period may begin with the last letters before it, where they are the same as its own.
    assert start - 5 <= guard.loop_start < guard.loop_stop
    assert guard.reason


@pytest.mark.parametrize("name", legitimate.TEXTS)
def test_enumeration_search_and_second_thoughts_go_on(name):
    text = legitimate.TEXTS[name]()
    assert len(text) > 2000
    guard = fed(text, same(4))
    assert (guard.loop_stop, guard.loop_start, guard.reason) == (-1, -1, "")


def test_all_that_enumeration_in_one_answer_goes_on():
    assert find_loop("\n\n".join(write() for write in legitimate.TEXTS.values()), CONFIG) is None


@pytest.mark.parametrize("name", looping.TEXTS)
def test_the_verdict_does_not_depend_on_the_cuts(name):
    text = legitimate.squares() + looping.TEXTS[name][0]
    stop = find_loop(text, CONFIG)
    assert stop is not None
    assert stop > len(legitimate.squares())
    whole = fed(text, same(len(text)))
    for cuts in (same(1), same(4), same(255), same(256), same(257), uneven(1), uneven(2)):
        guard = fed(text, cuts)
        assert (guard.loop_stop, guard.loop_start, guard.reason) == (
            stop,
            whole.loop_start,
            whole.reason,
        )


@pytest.mark.parametrize("name", ["sentence", "attempts", "shuffled paragraphs"])
def test_what_comes_after_the_stop_changes_nothing(name):
    text = looping.TEXTS[name][0]
    stop = find_loop(text, CONFIG)
    assert find_loop(text[: stop - 1], CONFIG) is None
    assert find_loop(text[:stop], CONFIG) == stop
    assert find_loop(text[:stop] + legitimate.pairs(), CONFIG) == stop


@pytest.mark.parametrize(
    ("number", "counts"),
    [
        ("n={0}", True),
        ("n = {0}", True),
        ("{0}+n", True),
        ("{0} + n", True),
        ("${0}$", True),
        ("a_{0}", True),
        ("x{0}", True),
        ("0.{0}", True),
        ("number {0}", False),
        ("the {0}th", False),
        ("({0})", False),
        ("number {0}, with m = 8,", False),
    ],
)
def test_a_running_number_counts_where_it_belongs_to_an_equation(number, counts):
    form = f"So I will take {number} and go back to where this proof began.\n"
    stop = find_loop(looping.counted(form), CONFIG)
    assert stop is None if counts else stop < 4700


def test_a_running_number_counts_where_its_steps_are_uneven():
    dice = random.Random(0)
    form = "So I will take number {0} and go back to where this proof began.\n"
    assert find_loop("".join(form.format(dice.randint(10, 99)) for _ in range(60)), CONFIG) is None


def test_a_period_may_contain_shorter_ones():
    # At each look, every 256 characters, the text ends within equal rows of a matrix.
    row = "0 & 0 & 0 \\\\\n"
    words = looping.PARAGRAPHS[0] + looping.PARAGRAPHS[1]
    cycle = words[:160] + row * 8 + words[160:330] + row * 6
    assert len(cycle) == 512
    guard = fed(cycle * 10, same(4), LoopGuardConfig(stale_characters=0))
    assert guard.loop_stop == 4 * 512
    assert guard.reason == "a block of 16 lines and 512 characters 4 times"


@pytest.mark.parametrize("num_sentences", [300, 400, 450, 500])
def test_old_sentences_are_forgotten_and_those_of_the_loop_are_not(num_sentences):
    before = "".join(f"We have g({k}) = {k * k}. " for k in range(num_sentences))
    cycle = len(looping.long_cycle()) // 8
    stop = find_loop(before + looping.long_cycle(), CONFIG) - len(before)
    assert 3 * cycle < stop < 3 * cycle + 5000


def test_a_guard_that_has_found_a_loop_stays_with_it():
    guard = LoopGuard(CONFIG)
    assert guard.feed("the " * 1000)
    found = (guard.loop_start, guard.loop_stop, guard.reason)
    assert guard.feed(legitimate.OPENING)
    assert guard.feed("")
    assert (guard.loop_start, guard.loop_stop, guard.reason) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("the " * 300, "a period of 4 characters 256 times"),
        ("0" * 1100, "a period of 1 characters 1024 times"),
        ("Let me try that again, slowly.\n" * 40, "a line of 31 characters 33 times"),
        ("So x = 1.\nBut x > 1.\n\n" * 60, "a block of 3 lines and 22 characters 46 times"),
    ],
)
def test_the_reason_says_what_was_repeated(text, reason):
    guard = LoopGuard(CONFIG)
    assert guard.feed(text)
    assert (guard.reason, guard.loop_start, guard.loop_stop) == (reason, 0, 1024)


def test_each_rule_can_be_turned_off():
    exact, near = looping.TEXTS["sentence"][0], looping.TEXTS["attempts"][0]
    assert find_loop(near, LoopGuardConfig(stale_characters=0)) is None
    assert find_loop(exact, LoopGuardConfig(stale_characters=0)) == 1024
    # Sentences alone find an exact loop too, only later.
    assert 4096 < find_loop(exact, LoopGuardConfig(max_period=0)) < 5000
    assert find_loop(exact, LoopGuardConfig(max_period=0, stale_characters=0)) is None
    assert find_loop(exact + near, LoopGuardConfig(enabled=False)) is None
    assert LoopGuard(LoopGuardConfig(enabled=False)).feed(exact) is False


def test_limits_mean_what_they_say():
    paragraph = looping.PARAGRAPHS[0]
    stops = [find_loop(paragraph * 40, LoopGuardConfig(min_repeats=n)) for n in (5, 8, 12)]
    assert all(
        n * len(paragraph) <= stop < n * len(paragraph) + 256
        for n, stop in zip((5, 8, 12), stops, strict=True)
    )
    assert find_loop("the " * 2000, LoopGuardConfig(min_characters=3000)) == 3072
    # A share of new text above the limit is work, below it is none.
    mixed = looping.one_word_changes()
    assert find_loop(mixed, LoopGuardConfig(max_new_share=0.01)) is None
    assert find_loop(mixed, LoopGuardConfig(max_new_share=0.2)) is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_repeats", 1),
        ("min_characters", 255),
        ("max_period", -1),
        ("stale_characters", -1),
        ("max_new_share", 0.0),
        ("max_new_share", 0.6),
    ],
)
def test_limits_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"{field} is {value}"):
        LoopGuardConfig(**{field: value})


def test_memory_stays_the_same_however_long_the_text():
    # Nothing that lasts is shared with the text, so what grows here is the guard.
    tracemalloc.start()
    guard = LoopGuard(CONFIG)
    sizes = []
    for k in range(30_000):
        assert not guard.feed(f"Now {k} times {k % 97} plus {k * k % 89} makes {k ^ 5}, I think. ")
        if k in (5_000, 29_999):
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] < 1.5 * sizes[0] < 600_000


def test_a_piece_costs_a_few_microseconds():
    text = "".join(write() for write in legitimate.TEXTS.values())
    pieces = [text[i : i + 4] for i in range(0, len(text), 4)]
    seconds = []
    for _ in range(3):
        guard = LoopGuard(CONFIG)
        start = time.process_time()
        for piece in pieces:
            guard.feed(piece)
        seconds.append(time.process_time() - start)
    # About 0.7 on two old cores; five is what a dozen busy servers leave for it.
    assert min(seconds) / len(pieces) < 5e-6


def real_solutions(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Problem, id and text of everything that a person or a model wrote as a solution."""
    for path in sorted(folder.glob("*/*/*.jsonl*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in data.splitlines():
            row = json.loads(line)
            for index, candidate in enumerate(row.get("candidates", [])):
                yield f"{path.parent.name} {row['id']}", f"{row['id']}/{index}", candidate["text"]
            if row.get("steps"):
                yield row["id"], row["id"], "\n\n".join(row["steps"])
            if row.get("solution"):
                yield row["id"], row["id"], row["solution"]


@pytest.mark.real
def test_no_real_solution_is_stopped_that_was_not_stuck(data_dir):
    read, found, false_stops = set(), set(), []
    for _, name, text in real_solutions(data_dir):
        guard = LoopGuard(CONFIG)
        read.add(name)
        if guard.feed(text):
            found.add(name)
            # What the guard did not see decides: a text that is stuck goes on with a copy.
            if text[guard.loop_stop :][:200] not in text[: guard.loop_stop]:
                false_stops.append((name, guard.reason, text[guard.loop_start :][:300]))
    assert len(read) > 10_000
    assert TRUE_LOOPS & read == TRUE_LOOPS & found
    assert not false_stops, f"{len(false_stops)} of {len(read)}: {false_stops}"


@pytest.mark.real
def test_real_attempts_at_one_problem_in_a_row_are_no_loop(data_dir):
    attempts: dict[str, list[str]] = {}
    for problem, _, text in real_solutions(data_dir):
        if find_loop(text, CONFIG) is None:
            attempts.setdefault(problem, []).append(text)
    # Equal texts are one attempt: the same solution eight times is a loop.
    rows = {problem: "\n\n".join(dict.fromkeys(texts)) for problem, texts in attempts.items()}
    assert max(map(len, rows.values())) > 10_000
    assert not [problem for problem, text in rows.items() if find_loop(text, CONFIG) is not None]


@pytest.mark.real
def test_a_real_loop_with_a_running_number_is_found(data_dir):
    # "35. To find out Colin's current age, we need to solve the equation from step 34."
    text = next(t for _, name, t in real_solutions(data_dir) if name == "gsm8k-test-1181/1")
    config = LoopGuardConfig(max_period=0, stale_characters=2048)
    assert 4000 < find_loop(text, config) < len(text)
