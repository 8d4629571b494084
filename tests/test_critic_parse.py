import random
import string

import pytest

from prm.critic.dialect import Dialect
from prm.critic.parse import STATUSES, ParsedCritique, parse, render
from prm.errors import EncodingError

SHORT = Dialect()
ZERO = Dialect(
    correct=" ok",
    wrong=" error",
    index_base=0,
    step_template="[{index}] {work} ->{verdict}",
    final_template="=> {first_error}",
)
# Characters that a careless pattern would trip over.
LETTERS = string.ascii_letters + string.digits + " ,.:=+-*/()[]{}\\^$|#?é数"


def random_critique(source, dialect):
    """Work texts and first error that may be rendered, with the number of steps judged."""
    num_steps = source.randint(1, 6)
    first_error = source.choice([None, source.randrange(num_steps)])
    num_judged = num_steps if first_error is None else first_error + 1
    work = []
    while len(work) < num_judged:
        text = "".join(source.choices(LETTERS, k=source.randint(1, 20)))
        text += source.choice(["", dialect.correct + ".", dialect.wrong + ", so"])
        if dialect.work_fault(text) is None:
            work.append(text)
    return work, first_error, num_steps


def test_short_dialect_word_for_word():
    text = "1: 3 + 9 = 12, correct\n2: 12 + 4 = 16, wrong\nFirst error: 2"
    assert render(["3 + 9 = 12", "12 + 4 = 16"], 1, SHORT) == text
    assert parse(text, 3, "stop", SHORT) == ParsedCritique(
        "ok", (True, False), 1, ("3 + 9 = 12", "12 + 4 = 16")
    )
    assert render(["x, y"], None, SHORT) == "1: x, y, correct\nFirst error: none"


@pytest.mark.parametrize("dialect", [SHORT, ZERO], ids=["short", "zero"])
def test_what_is_rendered_is_read_back(dialect):
    source = random.Random(1)
    for _ in range(500):
        work, first_error, num_steps = random_critique(source, dialect)
        text = render(work, first_error, dialect)
        parsed = parse(text, num_steps, "stop", dialect)
        assert parsed.status == "ok"
        assert (parsed.work, parsed.first_error) == (tuple(work), first_error)
        assert parsed.verdicts == tuple(t != first_error for t in range(len(work)))
        assert render(parsed.work, parsed.first_error, dialect) == text


@pytest.mark.parametrize("dialect", [SHORT, ZERO], ids=["short", "zero"])
def test_damaged_text_is_never_read_as_something_else(dialect):
    """Whatever is read is exactly what the text says: rendering it gives the text again."""
    source = random.Random(2)
    statuses = set()
    for _ in range(2000):
        work, first_error, num_steps = random_critique(source, dialect)
        text = damage(render(work, first_error, dialect), dialect, source)
        parsed = parse(text, num_steps, "stop", dialect)
        statuses.add(parsed.status)
        assert parsed.status in STATUSES
        if parsed.status == "ok":
            assert render(parsed.work, parsed.first_error, dialect) == text
            assert parsed.verdicts.count(False) == (parsed.first_error is not None)
        else:
            assert parsed == ParsedCritique(parsed.status)
    assert len(statuses) > 8


def damage(text, dialect, source):
    lines = text.split("\n")
    at = source.randrange(len(lines))
    kind = source.randrange(8)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    elif kind == 2:
        swapped = dialect.wrong if lines[at].endswith(dialect.correct) else dialect.correct
        lines[at] = lines[at].removesuffix(dialect.correct).removesuffix(dialect.wrong) + swapped
    elif kind == 3:
        lines.append(source.choice(["", "Well done.", lines[0], lines[-1]]))
    elif kind == 4:
        lines[-1] = dialect.final_template.format(first_error=source.randint(0, 9))
    elif kind == 5:
        source.shuffle(lines)
    elif kind == 6:
        lines[at] = lines[at].replace("1", source.choice(["01", "¹", "9" * 5000, "-1"]))
    damaged = "\n".join(lines)
    return damaged[: source.randrange(len(damaged) + 1)] if kind == 7 else damaged


def test_text_cut_anywhere_is_never_ok():
    text = render(["3 + 9 = 12", "12 + 4 = 16", "Answer: 16"], None, SHORT)
    for end in range(len(text)):
        assert parse(text[:end], 3, "stop", SHORT).status != "ok"
    assert parse(text, 3, "length", SHORT).status == "truncated"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("1: a, correct\n2: b, correct", "no_final"),
        ("1: a, correct\nFirst error: none", "wrong_number_of_steps"),
        ("First error: 1", "wrong_number_of_steps"),
        ("1: a, fine\nFirst error: none", "bad_line"),
        ("1: , correct\n2: b, correct\nFirst error: none", "bad_line"),
        ("1: it is wrong, correct\n2: b, correct\nFirst error: none", "bad_line"),
        ("2: b, correct\nFirst error: none", "index_gap"),
        ("1: a, correct\n1: a, correct\nFirst error: none", "index_gap"),
        ("1: a, correct\n2: b, correct\n3: c, correct\nFirst error: none", "out_of_range"),
        ("1: a, correct\n2: b, correct\nFirst error: 3", "out_of_range"),
        ("1: a, correct\n2: b, correct\nFirst error: 0", "out_of_range"),
        ("1: a, wrong\n2: b, correct\nFirst error: 1", "goes_on_after_wrong"),
        ("1: a, wrong\nFirst error: none", "contradiction"),
        ("1: a, wrong\nFirst error: 2", "contradiction"),
        ("1: a, correct\n2: b, correct\nFirst error: 2", "contradiction"),
        ("1: a, wrong\nFirst error: 1\nFirst error: 1", "two_finals"),
        ("1: a, wrong\nFirst error: 1\n", "extra_text"),
        ("Sure!\n1: a, wrong\nFirst error: 1", "bad_line"),
    ],
)
def test_each_fault_has_its_status(text, status):
    assert parse(text, 2, "stop", SHORT) == ParsedCritique(status)


def test_repetition_up_to_the_limit_is_a_loop():
    assert parse("1: a, correct\n" + "and so on " * 5, 2, "length", SHORT).status == "loop"


def test_nothing_to_judge():
    assert parse("First error: none", 0, "stop", SHORT).status == "no_steps"


@pytest.mark.parametrize(
    ("work", "first_error"),
    [
        ([], None),
        (["a", "b"], 0),
        (["a"], 1),
        (["a\nb"], None),
        (["a\u2028b"], None),
        ([" a"], None),
        ([""], None),
        (["this is wrong"], None),
        (["this is correct"], 0),
        (["a" * 501], None),
    ],
)
def test_critique_that_could_not_be_read_is_not_rendered(work, first_error):
    with pytest.raises(EncodingError):
        render(work, first_error, SHORT)
