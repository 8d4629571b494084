import json
import sys
import threading

import pytest

from prm.errors import ConfigError, MissingExtraError, RecordError
from prm.records import Problem
from prm.verifiers.integer import check_integer
from prm.verifiers.puzzles import Game24Verifier
from prm.verifiers.registry import BUILT_IN, Verifiers, get_verifier

MINE = """
import dataclasses

from prm.errors import RecordError
from prm.records import Verdict

MADE = []


@dataclasses.dataclass
class Same:
    ignore_case: bool = False
    most: int = 3

    def __post_init__(self):
        MADE.append(self)
        self.is_open = True
        self.batches = []

    def __call__(self, answer, reference):
        a, b = (answer, reference)
        if self.ignore_case:
            a, b = a.lower(), b.lower()
        return Verdict("right" if a == b else "wrong", "same")

    def check_many(self, items):
        self.batches.append(len(items))
        return [self(*item) for item in items]

    def check_reference(self, reference):
        if not reference:
            raise RecordError("the reference is empty")

    def close(self):
        self.is_open = False


class Plain:
    def __init__(self, size, name="n"):
        self.size = size

    def __call__(self, answer, reference):
        return Verdict("right", f"plain {self.size}")
"""


def problem(name, reference, verifier):
    return Problem(name, "s", reference, verifier, "test", "train")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package of a user's, installed with two entry points."""
    (tmp_path / "same_verifier.py").write_text(MINE)
    info = tmp_path / "same_verifier-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: same-verifier\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[stepwise_prm.verifiers]\n"
        "same = same_verifier:Same\n"
        "plain = same_verifier:Plain\n"
        "broken = same_verifier_that_is_absent:Same\n"
        "twice = same_verifier:Same\n"
    )
    other = tmp_path / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[stepwise_prm.verifiers]\ntwice = other:Same\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("same_verifier", None)


def test_a_verifier_is_made_once_with_its_settings():
    verifiers = Verifiers({"game24": {"allow_fractions": False}})
    assert verifiers.get("game24") == Game24Verifier(allow_fractions=False)
    assert verifiers.get("game24") is verifiers.get("game24")
    assert verifiers.get("integer") is check_integer
    assert get_verifier("game24") == Game24Verifier()
    assert get_verifier("game24") is get_verifier("game24")


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in ("math", "code")])
def test_a_built_in_verifier_never_raises_on_an_answer(name):
    references = {
        "integer": "12",
        "parentheses": {"numbers": [1, 2], "operators": ["+"], "target": 3},
        "game24": {"numbers": [4, 6], "target": 24},
        "countdown": {"numbers": [4, 6], "target": 24},
        "polynomial_roots": {"coefficients": [1, -1]},
        "linear_system": {"variables": ["x"], "matrix": [[1]], "constants": [1]},
        "arithmetic_chain": {"expression": "1 + 1"},
    }
    reference = references[name]
    text = reference if isinstance(reference, str) else json.dumps(reference)
    for answer in (None, "", " ", "no idea", "\x00", "(" * 5000, "9" * 5000, "1" + "/1" * 400):
        verdict = get_verifier(name)(answer, text)
        assert verdict.label is None
        assert verdict.reason in ("no_answer", "unparsed", "too_long")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"gaem24": {}}, "'gaem24' is unknown; there are .*'game24'"),
        ({"game24": 3}, "game24 should be settings, found 3"),
    ],
)
def test_wrong_settings_are_found_before_anything_is_checked(settings, found):
    with pytest.raises(ConfigError, match=found):
        Verifiers(settings)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"allow": True}, r"verifiers.game24: .*unknown fields \['allow'\]"),
        ({"allow_fractions": "yes"}, "verifiers.game24: .*should be bool, found 'yes'"),
    ],
)
def test_wrong_settings_of_a_verifier_name_it(settings, found):
    with pytest.raises(ConfigError, match=found):
        Verifiers({"game24": settings}).get("game24")


def test_a_function_has_no_settings():
    with pytest.raises(ConfigError, match=r"verifiers.integer: it has no settings, found \['a'\]"):
        Verifiers({"integer": {"a": 1}}).get("integer")


def test_one_class_and_one_entry_point_make_a_verifier(mine):
    verifiers = Verifiers({"same": {"ignore_case": True}, "plain": {"size": 4}})
    assert verifiers.check(problem("a", "Yes", "same"), "yes").label is True
    assert verifiers.check(problem("b", "1", "plain"), "2").backend == "plain 4"
    with pytest.raises(ConfigError, match="'other' is unknown; there are .*'game24'.*'same'"):
        verifiers.get("other")


def test_settings_that_the_class_does_not_take_are_an_error(mine):
    with pytest.raises(ConfigError, match="verifiers.plain: missing a required argument: 'size'"):
        Verifiers().get("plain")
    with pytest.raises(ConfigError, match="verifiers.same: .*most should be int"):
        Verifiers({"same": {"most": "many"}}).get("same")


def test_a_name_that_two_packages_define_is_refused(mine):
    with pytest.raises(ConfigError, match="'twice' is defined 2 times: .*other:Same"):
        get_verifier("twice")


def test_a_missing_library_is_named(mine):
    with pytest.raises(MissingExtraError, match="'broken' needs the library 'same_verifier_that"):
        get_verifier("broken")


def test_many_answers_come_back_in_order_and_go_together(mine):
    with Verifiers() as verifiers:
        problems = [problem("a", "1", "same"), problem("b", "2", "integer")]
        items = [(problems[i % 2], str(i % 4)) for i in range(12)]
        found = verifiers.check_many(items)
        assert found == [verifiers.check(*item) for item in items]
        assert [verdict.backend for verdict in found] == ["same", "integer"] * 6
        assert verifiers.get("same").batches == [6]
        assert verifiers.check_many([]) == []


def test_closing_closes_what_was_made_and_no_more(mine):
    import same_verifier

    with Verifiers({"plain": {"size": 1}}) as verifiers:
        first = verifiers.get("same")
        assert first.is_open
    assert not first.is_open
    assert [first] == same_verifier.MADE
    assert verifiers.get("same") is not first


def test_unusable_references_are_named_by_problem(mine):
    problems = [
        problem("ok", "12", "integer"),
        problem("words", "twelve", "integer"),
        problem("empty", "", "same"),
        problem("plain", "x", "same"),
        problem("puzzle", json.dumps({"numbers": [1, 1, 1, 1], "target": 24}), "game24"),
    ]
    bad = Verifiers().check_references(problems)
    assert set(bad) == {"words", "empty", "puzzle"}
    assert bad["empty"] == "the reference is empty"
    assert "'twelve' is not an integer" in bad["words"]
    assert "do not make 24" in bad["puzzle"]


def test_a_bad_reference_is_no_verdict():
    with pytest.raises(RecordError):
        Verifiers().check(problem("words", "twelve", "integer"), "12")


def test_threads_share_one_verifier(mine):
    verifiers, found = Verifiers(), []
    threads = [
        threading.Thread(target=lambda: found.append(verifiers.get("same"))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1
