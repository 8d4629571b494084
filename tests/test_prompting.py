import dataclasses
import hashlib
import itertools
import json
import math
import random
import re
from collections import Counter
from fractions import Fraction

import pytest
import yaml

from data_gen.prompting import Exemplar, Strategy, list_strategies, load_strategy
from prm.errors import ConfigError
from prm.protocols import Chat, Message
from tests.tiny import tiny_problem

PROBE = dataclasses.replace(tiny_problem(), id="probe/0", statement="What is $\\frac{6}{2}$?")
SOLUTION = "Half of 6 is 2.\n\nThe answer is \\boxed{2}."

# What each version of a shipped prompt says. A line is added for a new version, never changed.
PINNED = {
    "check_program/1": "bfb5bd8efe57cfd1",
    "decompose/1": "a30d3cadc889f160",
    "deepen_and_test/1": "13e31626ade65fc1",
    "depth_first/1": "a099adccae2fd371",
    "estimate_and_check/1": "5601de150a63cb8e",
    "few_shot_arithmetic/1": "8c6b860d13931801",
    "few_shot_cot/1": "5b9c23a33b741130",
    "find_and_fix/1": "cdf53b9c5b86d881",
    "few_shot_program/1": "6e76a31a7cde35e8",
    "first_error/1": "8c7dae240c362136",
    "plan_first/1": "01d46db18ab9cfb5",
    "program_with_plan/1": "751a0907b32e3eb6",
    "trial_and_error/1": "5ab087c6a82a902f",
    "work_backwards/1": "9488b1f5cf3a6235",
    "zero_shot/1": "c64a17a9be203c3b",
    "zero_shot_arithmetic/1": "9c95a6e9b536d583",
}
QUICKSTART = "3368448423f60e09659c9d2a1cbd6aa22989d732292f45c5c50dfce90b8d5374"

CHAT = {"name": "mine", "version": 1, "about": "mine", "kind": "chat", "user": "Q: {problem}"}
TEXT = {"name": "mine", "version": 2, "about": "mine", "kind": "text", "text": "Q: {problem}\nA:\n"}
FEW = Strategy(
    **{**CHAT, "user": "{exemplars}\n\n{problem}"},
    exemplars=tuple(Exemplar(f"What is {i} + 1?", f"\\boxed{{{i + 1}}}") for i in range(10)),
    num_exemplars=3,
)


def written(folder, row, exemplars=None):
    """The path of a prompt file."""
    if exemplars is not None:
        (folder / "examples.yaml").write_text(yaml.safe_dump(exemplars))
    path = folder / "mine.yaml"
    path.write_text(row if isinstance(row, str) else yaml.safe_dump(row))
    return str(path)


def render(strategy, problem=PROBE, **kwargs):
    return strategy.render(problem, solution=SOLUTION if strategy.takes_solution else "", **kwargs)


def content_of(prompt):
    """All that is sent, as one text."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join([*(one.content for one in prompt.messages), prompt.prefix])


def shown(prompt):
    """The numbers of FEW's exemplars in a prompt, in order."""
    return [int(i) for i in re.findall(r"What is (\d+) \+ 1\?", content_of(prompt))]


def problem_of(number):
    return dataclasses.replace(PROBE, id=f"probe/{number}")


SHIPPED = {one.name: one for one in list_strategies()}
TEXTS = {"few_shot_arithmetic", "few_shot_program"}


def test_these_strategies_are_shipped():
    assert set(SHIPPED) == {
        *("zero_shot", "few_shot_cot", "trial_and_error", "deepen_and_test", "depth_first"),
        *("work_backwards", "plan_first", "estimate_and_check", "decompose", "find_and_fix"),
        *("few_shot_arithmetic", "zero_shot_arithmetic", "check_program", "first_error"),
        *("few_shot_program", "program_with_plan"),
    }
    assert [name for name, one in SHIPPED.items() if one.refines] == ["find_and_fix"]
    assert [name for name, one in SHIPPED.items() if one.checks] == ["check_program", "first_error"]
    assert {name for name, one in SHIPPED.items() if one.kind == "text"} == TEXTS


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_prompt_does_not_change_under_its_version(name):
    strategy = load_strategy(name)
    sent = [strategy.fingerprint, content_of(render(strategy, steps=["One.\n", "Two."]))]
    found = hashlib.sha256(json.dumps(sent).encode()).hexdigest()[:16]
    assert PINNED.get(strategy.id) == found, (
        f"the prompt of {strategy.id} is not what solutions recorded under this name were asked "
        f"with: raise `version` in data_gen/prompts/{name}.yaml, and add the new version with "
        f"its hash to PINNED (the hash is now {found})"
    )


def test_the_pinned_hash_sees_an_edit_of_any_part():
    parts = {
        "system": "Be brief.",
        "user": "{exemplars}\n{problem}",
        "exemplars": FEW.exemplars[1:],
        "num_exemplars": 4,
        "version": 2,
    }
    edited = [dataclasses.replace(FEW, **{key: value}) for key, value in parts.items()]
    assert len({one.fingerprint for one in [FEW, *edited]}) == 1 + len(parts)
    assert dataclasses.replace(FEW, about="other words").fingerprint == FEW.fingerprint


def test_the_prompt_of_the_quickstart_is_the_same_bytes():
    text = load_strategy("few_shot_arithmetic").text
    assert hashlib.sha256(text.encode()).hexdigest() == QUICKSTART
    prompt = load_strategy("few_shot_arithmetic").render(PROBE, steps=["a", "b"])
    assert prompt == text.replace("{problem}", PROBE.statement) + "a\nb\n"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_prompt_is_found_by_its_name_and_shows_the_problem_once(name):
    strategy = SHIPPED[name]
    assert strategy.name == name
    assert strategy.about
    assert "\n" not in strategy.about
    assert content_of(render(strategy)).count(PROBE.statement) == 1
    assert not re.search(r"\{(problem|exemplars|solution)\}", content_of(render(strategy)))


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - TEXTS))
def test_a_shipped_chat_is_a_short_user_turn_that_says_the_form_of_the_answer(name):
    chat = SHIPPED[name].render(PROBE, solution=SOLUTION if SHIPPED[name].takes_solution else "")
    assert [one.role for one in chat.messages] == ["user"]
    content = chat.messages[0].content
    assert content == content.strip()
    forms = {
        "zero_shot_arithmetic": r"^Answer: ",
        "check_program": r"function check\(\)",
        "first_error": r"first wrong step in \\boxed\{\}, .* with \\boxed\{-1\} when",
        "program_with_plan": r"^Answer with one block of Python and nothing else\.",
    }
    form = forms.get(name, r"final answer in \\boxed\{\}\.")
    assert re.search(form, content, re.MULTILINE)
    assert len(re.sub(r"(?s)Example 1\n.*Problem:", "", content)) < 900


@pytest.mark.parametrize("row", [CHAT, TEXT, {**CHAT, "system": "About {problem}", "user": "Go."}])
@pytest.mark.parametrize(
    "statement",
    ["{solution} or {exemplars}?", "{problem}", r"$\frac{1}{2}$ \1 \g<0> {0} %s {x}", "a\n\nb\n"],
)
def test_what_stands_in_a_statement_is_never_replaced(row, statement):
    prompt = content_of(Strategy(**row).render(statement))
    assert prompt.count(statement) == 1
    assert prompt.replace(statement, "7") == content_of(Strategy(**row).render("7"))


def test_slots_in_a_solution_or_an_exemplar_are_never_replaced():
    fix = SHIPPED["find_and_fix"]
    prompt = fix.render("1 + {solution}?", solution="By {problem} it is {exemplars}.")
    assert "1 + {solution}?" in prompt.messages[0].content
    assert "By {problem} it is {exemplars}." in prompt.messages[0].content
    odd = Exemplar("{problem}?", "{exemplars} {solution}")
    plain = Exemplar("What is 2 + 2?", "\\boxed{4}")
    strategy = dataclasses.replace(FEW, exemplars=(odd, plain), num_exemplars=1)
    prompts = {strategy.render("7", seed=seed).messages[0].content for seed in range(20)}
    assert len(prompts) == 2
    assert any("Problem: {problem}?\n\nSolution:\n\n{exemplars} {solution}" in p for p in prompts)


def test_the_steps_so_far_are_the_prefix_of_a_chat_and_the_end_of_a_text():
    chat = Strategy(**CHAT, system="Be brief.")
    turns = (Message("system", "Be brief."), Message("user", "Q: 1 + 1?"))
    assert chat.render("1 + 1?") == Chat(turns)
    assert chat.render("1 + 1?", steps=["a\n", "b"]) == Chat(turns, "a\n\nb\n")
    text = Strategy(**TEXT)
    assert text.render("1 + 1?") == "Q: 1 + 1?\nA:\n"
    assert text.render("1 + 1?", steps=["a", "b"]) == "Q: 1 + 1?\nA:\na\nb\n"


def test_a_solution_records_name_and_version():
    assert Strategy(**TEXT).id == "mine/2"
    assert SHIPPED["plan_first"].id == "plan_first/1"


def test_a_refinement_shows_problem_and_solution_and_cannot_do_without():
    fix = SHIPPED["find_and_fix"]
    [turn] = fix.render(PROBE, solution=SOLUTION).messages
    assert turn.content.index(PROBE.statement) < turn.content.index(SOLUTION)
    with pytest.raises(ConfigError, match="find_and_fix/1 refines a solution: give it one"):
        fix.render(PROBE)
    with pytest.raises(ConfigError, match="zero_shot/1 has no slot {solution}"):
        SHIPPED["zero_shot"].render(PROBE, solution=SOLUTION)


def test_exemplars_are_different_ones_in_a_form_of_their_own():
    for number in range(50):
        assert len(set(shown(FEW.render(problem_of(number))))) == 3
    one = dataclasses.replace(FEW, num_exemplars=1)
    [i] = shown(one.render("7"))
    assert one.render("7").messages[0].content == (
        f"Example 1\n\nProblem: What is {i} + 1?\n\nSolution:\n\n\\boxed{{{i + 1}}}\n\n7"
    )


def test_exemplars_depend_on_the_seed_the_problem_and_the_strategy():
    same = [FEW.render(PROBE, seed=1) for _ in range(3)]
    assert same[0] == same[1] == same[2]
    assert len({tuple(shown(FEW.render(PROBE, seed=seed))) for seed in range(30)}) > 20
    assert len({tuple(shown(FEW.render(problem_of(i)))) for i in range(30)}) > 20
    other = dataclasses.replace(FEW, version=2)
    assert shown(other.render(PROBE)) != shown(FEW.render(PROBE))


def test_every_exemplar_is_shown_about_equally_often():
    counts = Counter(
        i for number in range(1000) for i in shown(FEW.render(problem_of(number), seed=7))
    )
    # 3 of 10, 1,000 times: mean 300, standard deviation 14.5; five of them.
    assert set(counts) == set(range(10))
    assert all(abs(count - 300) < 73 for count in counts.values())


def test_exemplars_do_not_depend_on_their_order_and_hardly_on_others():
    mixed = list(FEW.exemplars)
    random.Random(0).shuffle(mixed)
    reordered = dataclasses.replace(FEW, exemplars=tuple(mixed))
    more = dataclasses.replace(FEW, exemplars=(Exemplar("What is 99 + 1?", "100"), *FEW.exemplars))
    untouched = 0
    for problem in map(problem_of, range(100)):
        before, after = shown(FEW.render(problem)), shown(more.render(problem))
        assert shown(reordered.render(problem)) == before
        # What is left of the new draw is the old one without its last.
        assert [i for i in after if i != 99] == before[: 3 - after.count(99)]
        untouched += before == after
    assert 50 < untouched < 100


def test_a_problem_is_never_its_own_exemplar():
    tight = dataclasses.replace(FEW, num_exemplars=9)
    for i, seed in itertools.product(range(10), range(5)):
        prompt = tight.render(f" What is\n{i} + 1? ", seed=seed)
        assert sorted(shown(prompt)) == [k for k in range(10) if k != i]


def test_a_file_of_the_users_is_loaded_by_its_path(tmp_path):
    file = (
        "name: mine\nversion: 3\nabout: 'mine: short'\nkind: chat\nexemplars: examples.yaml\n"
        "num_exemplars: 1\nsystem: |\n  Be brief.\nuser: |\n  {exemplars}\n\n  {problem}\n"
    )
    rows = [{"problem": "1 + 1?\n", "solution": "2\n"}, {"problem": "2 + 2?", "solution": "4"}]
    strategy = load_strategy(written(tmp_path, file, rows))
    assert strategy == Strategy(
        name="mine",
        version=3,
        about="mine: short",
        kind="chat",
        system="Be brief.",
        user="{exemplars}\n\n{problem}",
        exemplars=(Exemplar("1 + 1?", "2"), Exemplar("2 + 2?", "4")),
        num_exemplars=1,
    )


@pytest.mark.parametrize("name", ["few_shot", "absent.yaml", "", "exemplars/worked_problems"])
def test_an_unknown_strategy_is_refused_with_those_that_exist(name):
    with pytest.raises(ConfigError) as caught:
        load_strategy(name)
    assert repr(name) in str(caught.value)
    for strategy in SHIPPED.values():
        assert f"  {strategy.name}: {strategy.about}" in str(caught.value).split("\n")


WITH = {"exemplars": "examples.yaml", "num_exemplars": 1, "user": "{exemplars} {problem}"}
PAIRS = [{"problem": "1 + 1?", "solution": "2"}, {"problem": "2 + 2?", "solution": "4"}]


@pytest.mark.parametrize(
    ("row", "exemplars", "message"),
    [
        ("just words", None, "expected keys such as name and version, found 'just words'"),
        ("", None, "found None"),
        ("name: [", None, "cannot be read as YAML"),
        ({**CHAT, "prompt": "x"}, None, r"unknown fields \['prompt'\]"),
        ({k: v for k, v in CHAT.items() if k != "about"}, None, r"missing fields \['about'\]"),
        ({**CHAT, "version": "1"}, None, "version should be int, found '1'"),
        ({**CHAT, "version": 0}, None, "version should be 1 or more, found 0"),
        ({**CHAT, "name": "a/b"}, None, "name should be letters"),
        ({**CHAT, "kind": "raw"}, None, "kind should be one of"),
        ({**CHAT, "user": 3}, None, "user should be str, found 3"),
        ({**CHAT, "user": "\n"}, None, "of kind chat needs user"),
        ({**CHAT, "text": "x"}, None, "of kind chat has no text"),
        ({**TEXT, "user": "x"}, None, "of kind text has no user"),
        ({**TEXT, "system": "x"}, None, "of kind text has no system"),
        ({**TEXT, "text": ""}, None, "of kind text needs text"),
        ({**CHAT, "user": "no slot"}, None, "user or system needs {problem} exactly once, found 0"),
        ({**TEXT, "text": "{problem} {problem}"}, None, "text needs {problem} exactly once"),
        ({**CHAT, "system": "{problem}"}, None, "{problem} exactly once, found 2 times"),
        ({**CHAT, "user": "{problem}{solution}{solution}"}, None, "has {solution} 2 times"),
        ({**CHAT, "user": "{problem}{exemplars}"}, None, "the key exemplars names no file"),
        ({**CHAT, "num_exemplars": 2}, None, "num_exemplars is 2, but there are no exemplars"),
        ({**CHAT, **WITH}, None, "exemplars should name a file beside it, found 'examples.yaml'"),
        ({**CHAT, **WITH, "exemplars": 3}, None, "exemplars should name a file beside it, found 3"),
        ({**CHAT, **WITH, "user": "{problem}"}, PAIRS, "lacks the slot {exemplars}"),
        ({**CHAT, **WITH, "num_exemplars": 2}, PAIRS, "num_exemplars should be 1 to 1 with 2"),
        ({**CHAT, **WITH, "num_exemplars": 0}, PAIRS, "num_exemplars should be 1 to 1 with 2"),
        ({**CHAT, **WITH}, PAIRS[:1], "num_exemplars should be 1 to 0 with 1"),
        ({**CHAT, **WITH}, [*PAIRS, PAIRS[0]], "exemplars: two have the same problem"),
        ({**CHAT, **WITH}, [], "examples.yaml: expected a list"),
        ({**CHAT, **WITH}, {"a": 1}, "examples.yaml: expected a list"),
        ({**CHAT, **WITH}, ["a"], "examples.yaml: expected a list"),
        ({**CHAT, **WITH}, [{"problem": "x"}], r"exemplars\[0\]: .*missing fields \['solution'\]"),
    ],
)
def test_a_bad_file_is_refused_by_its_name_and_key(row, exemplars, message, tmp_path):
    path = written(tmp_path, row, exemplars)
    with pytest.raises(ConfigError, match=message) as caught:
        load_strategy(path)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match=r"mine\.yaml: cannot be read as YAML"):
        load_strategy(str(tmp_path / "mine.yaml"))


def sets_of_balls(is_wanted):
    draws = list(itertools.combinations("rrrrbbbbbb", 3))
    return Fraction(sum(map(is_wanted, draws)), len(draws))


# By trying all cases, or by a formula that the solutions do not use.
ANSWERS = {
    "A cinema": next(a for a in range(61) if 9 * a + 5 * (60 - a) == 432),
    "What is the last": 7**50 % 10,
    "How many three": sum(n // 100 < n // 10 % 10 < n % 10 for n in range(100, 1000)),
    "The legs": Fraction(9 * 12, math.isqrt(9**2 + 12**2)),
    "A bag": sets_of_balls(lambda draw: draw.count("r") == 2),
    "The first": sum(5 + (41 - 5) // 9 * i for i in range(20)),
    "The polynomial": next(
        a + 2 * b
        for a, b in itertools.product(range(-50, 50), repeat=2)
        if 1 + a + b == 0 and 8 + 2 * a + b == 0
    ),
    "A rectangular": max(y * (80 - 2 * y) for y in range(41)),
    "After a": Fraction(408) / Fraction(85, 100) * Fraction(15, 100),
    "One pipe": 1 / (Fraction(1, 6) + Fraction(1, 4) - Fraction(1, 12)),
    "In how many": len(set(itertools.permutations("LEVEL"))),
    "What is the smallest": next(n for n in range(1, 99) if n % 5 == 4 and n % 8 == 3),
    "The points": f"{((7 - 1) ** 2 + (10 - 2) ** 2) // 4}\\pi",
    "What is the sum": sum(x for x in range(9) if 4**x - 10 * 2**x + 16 == 0),
    "How many positive": sum(720 % d == 0 and d % 6 == 0 for d in range(1, 721)),
    "Two sides": round(math.dist((5, 0), (8 * 0.5, 8 * math.sqrt(3) / 2)), 9),
}
EXEMPLARS = SHIPPED["few_shot_cot"].exemplars
FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
CALCULATION = re.compile(r"[\d\s.+\-*/()!^]*\d[\d\s.+\-*/()!^]*")


def value_of(latex):
    """The exact value of a calculation with numbers only, or None if it is none."""
    plain = FRACTION.sub(r"((\1)/(\2))", latex).replace("\\cdot", "*")
    if not CALCULATION.fullmatch(plain):
        return None
    plain = re.sub(r"(\d+)!", lambda match: str(math.factorial(int(match[1]))), plain)
    plain = re.sub(r"\d+(\.\d+)?", r"Fraction('\g<0>')", plain.replace("^", "**"))
    return eval(re.sub(r"\)\s*\(", ")*(", plain).strip().replace("Fraction*(", "Fraction("))


def equalities(text):
    """(left, right) of every equality between calculations in a text."""
    for formula in re.findall(r"\$([^$]*)\$", text):
        sides = [value_of(side) for side in formula.split("=")]
        yield from (
            pair for pair in itertools.pairwise(sides) if pair[0] is not None is not pair[1]
        )


@pytest.mark.parametrize("exemplar", EXEMPLARS, ids=lambda one: one.problem[:20])
def test_a_shipped_exemplar_is_in_steps_and_right(exemplar):
    *steps, end = exemplar.solution.split("\n\n")
    assert len(steps) >= 3
    assert all(step and "\n" not in step and "boxed" not in step for step in steps)
    boxed = re.fullmatch(r"The answer is \$\\boxed\{(.*)\}\$\.", end)[1]
    [answer] = [value for key, value in ANSWERS.items() if exemplar.problem.startswith(key)]
    assert boxed == answer if isinstance(answer, str) else value_of(boxed) == answer
    for left, right in equalities(exemplar.solution):
        assert left == right


def test_the_shipped_exemplars_are_many_and_their_calculations_are_read():
    assert len(EXEMPLARS) == len(ANSWERS) >= 12
    assert sum(len(list(equalities(one.solution))) for one in EXEMPLARS) >= 30
    assert list(equalities(r"$2 \cdot 3 = 7$ and $x = 1$, $\frac{1}{2} + 3! = 4^2(1 + 1)$")) == [
        (6, 7),
        (Fraction(13, 2), 32),
    ]
