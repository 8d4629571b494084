import pytest
import yaml

from data_gen.drafts import Draft, Plan, by_prompt, solution_part
from data_gen.portfolio import spread
from prm.errors import ConfigError
from tests.sample_setup import problem

PORTFOLIO = {"zero_shot": 2, "few_shot_cot": 1, "plan_first": 1}


def plan(n=8, weights=PORTFOLIO, refine="", rounds=0, seed=0):
    return Plan.make(weights, n, refine, rounds, seed)


def refining(n=4, rounds=2):
    return plan(n, refine="find_and_fix", rounds=rounds)


def strategy_file(path, name, text="Q: {problem}", version=1):
    row = {"name": name, "version": version, "about": "mine", "kind": "text", "text": text}
    path.write_text(yaml.safe_dump(row))
    return str(path)


def test_the_samples_of_a_problem_are_spread_over_the_strategies():
    drafts = plan().first(problem(0))
    assert [one.k for one in drafts] == list(range(8))
    assert [one.strategy for one in drafts] == [f"{name}/1" for name in spread(PORTFOLIO, 8)]
    assert [one.solution_id for one in drafts] == [f"sum/0#{k}" for k in range(8)]
    assert {(one.parent, one.round) for one in drafts} == {(None, 0)}
    for name in PORTFOLIO:
        mine = [one for one in drafts if one.strategy == f"{name}/1"]
        assert [one.index for one in mine] == list(range(len(mine)))
        assert len({one.prompt for one in mine}) == 1


def test_more_samples_leave_the_first_ones_as_they_are():
    few, many = (plan(n).first(problem(3)) for n in (3, 9))
    assert many[:3] == few


def test_other_strategies_beside_it_do_not_change_what_a_strategy_asks():
    alone = plan(4, {"zero_shot": 1}).first(problem(1))
    beside = [one for one in plan(8).first(problem(1)) if one.strategy == "zero_shot/1"]
    assert [(one.prompt, one.index) for one in beside] == [(d.prompt, d.index) for d in alone]


def test_exemplars_are_drawn_for_each_problem_by_the_seed():
    def prompts(seed):
        one = plan(1, {"few_shot_cot": 1}, seed=seed)
        return [one.first(problem(number))[0].prompt.messages[-1].content for number in range(6)]

    assert prompts(0) == prompts(0)
    shown = [text[: text.rindex("Solve the next problem")] for text in prompts(0)]
    assert len(set(shown)) > 1
    assert sum(a != b for a, b in zip(prompts(0), prompts(1), strict=True)) > 1


def test_strategies_with_the_same_prompt_ask_for_samples_of_their_own(tmp_path):
    names = [strategy_file(tmp_path / f"{name}.yaml", name) for name in ("one", "two")]
    drafts = plan(6, dict.fromkeys(names, 1)).first(problem(0))
    assert len({one.prompt for one in drafts}) == 1
    assert sorted(one.index for one in drafts) == list(range(6))


def test_two_strategies_of_one_name_and_version_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    names = [
        strategy_file(tmp_path / "mine.yaml", "mine"),
        strategy_file(tmp_path / "other" / "mine.yaml", "mine", "Problem: {problem}"),
    ]
    with pytest.raises(ConfigError, match="more than one is mine/1"):
        plan(2, dict.fromkeys(names, 1))
    strategy_file(tmp_path / "other" / "mine.yaml", "mine", "Problem: {problem}", version=2)
    assert [one.strategy for one in plan(2, dict.fromkeys(names, 1)).first(problem(0))] == [
        "mine/1",
        "mine/2",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"best": 1}}, r"'best'[\s\S]*zero_shot: the problem and the form"),
        ({"weights": {}}, "at least one strategy"),
        ({"weights": {"zero_shot": 0}}, "'zero_shot' should be a positive number"),
        ({"weights": {"find_and_fix": 1}}, "find_and_fix refines a solution; name it under refine"),
        ({"refine": "zero_shot", "rounds": 1}, r"zero_shot has no slot \{solution\}; find_and_fix"),
        ({"refine": "check_program", "rounds": 1}, "check_program checks a solution and writes no"),
        ({"weights": {"check_program": 1}}, "check_program checks a solution and writes none"),
        ({"refine": "find_and_fix"}, "'find_and_fix' with refine_rounds 0: give both, or neither"),
        ({"rounds": 2}, "'' with refine_rounds 2: give both, or neither"),
        ({"refine": "find_and_fix", "rounds": -1}, "refine_rounds -1"),
        ({"refine": "better", "rounds": 1}, r"'better'[\s\S]*find_and_fix: "),
        ({"n": -1}, "negative"),
    ],
)
def test_settings_that_make_no_plan_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        plan(**settings)


def test_a_refinement_is_linked_to_what_it_refines():
    both = refining()
    first = both.first(problem(2))
    second = both.refined((one, f"text {one.k}") for one in first)
    third = both.refined((one, f"text {one.k}, better") for one in second)
    assert both.num_samples == 12
    assert [one.solution_id for one in second] == [f"sum/2#{k}.1" for k in range(4)]
    assert [one.parent for one in second] == [f"sum/2#{k}" for k in range(4)]
    assert [one.solution_id for one in third] == [f"sum/2#{k}.2" for k in range(4)]
    assert [one.parent for one in third] == [f"sum/2#{k}.1" for k in range(4)]
    assert {one.strategy for one in second + third} == {"find_and_fix/1"}
    for one in second:
        [message] = one.prompt.messages
        assert problem(2).statement in message.content
        assert f"Your earlier solution:\n\ntext {one.k}\n\n" in message.content


def requests(drafts):
    """What tells the requests of drafts apart."""
    return [(one.prompt, one.index) for one in drafts]


def test_refinements_of_equal_texts_are_asked_apart():
    both = refining()
    drafts = [one for number in range(2) for one in both.first(problem(number))]
    second = both.refined((one, "the same") for one in drafts)
    assert len(set(requests(second))) == 8
    # A text that a round did not change is asked again, not answered with the same words.
    third = both.refined((one, "the same") for one in second)
    assert len(set(requests(second + third))) == 16


def test_a_refinement_is_asked_the_same_wherever_its_parent_stands():
    both = refining()
    first = both.first(problem(0))
    texts = ["a", "b", "a", "c"]
    forwards = both.refined(zip(first, texts, strict=True))
    backwards = both.refined(zip(first, texts[::-1], strict=True))
    assert sorted(map(repr, requests(forwards))) == sorted(map(repr, requests(backwards)))
    fewer = both.refined(zip(first[:2], texts[:2], strict=True))
    assert requests(forwards)[:2] == requests(fewer)


def test_without_a_strategy_for_it_nothing_is_refined():
    one = plan(1)
    with pytest.raises(ValueError, match="no strategy refines"):
        one.refined([(one.first(problem(0))[0], "text")])


@pytest.mark.parametrize(
    ("text", "solution"),
    [
        ("All right.\n\nNew solution:\n\nStep 1", "\n\nStep 1"),
        ("New solution:\nStep 1", "\nStep 1"),
        ("Wrong.\n**New solution:**\nStep 1", "\nStep 1"),
        ("Wrong.\n## NEW SOLUTION\r\nStep 1", "\nStep 1"),
        ("New solution:\nno\nNew solution:\nyes", "\nyes"),
        ("<think>Hm.</think>New solution:\nStep 1", "\nStep 1"),
        ("<think>\nNew solution:\nno\n</think>\nNew solution:\nyes", "\nyes"),
        ("A new solution: Step 1", "A new solution: Step 1"),
        ("Step 1\nNew solution: Step 2", "Step 1\nNew solution: Step 2"),
        ("<think>\nNew solution:\nno\n</think>\nyes", "<think>\nNew solution:\nno\n</think>\nyes"),
        ("<think>\nNew solution:\ncut", "<think>\nNew solution:\ncut"),
        ("", ""),
    ],
)
def test_the_new_solution_is_what_stands_behind_its_heading(text, solution):
    assert text[solution_part(text) :] == solution


def test_a_heading_in_open_thoughts_is_none():
    thoughts = "Hm.\nNew solution:\n5\n"
    assert thoughts[solution_part(thoughts) :] == "\n5\n"
    assert solution_part(thoughts, is_open=True) == 0
    whole = thoughts + "</think>\nNew solution:\n6"
    assert whole[solution_part(whole, is_open=True) :] == "\n6"


def test_the_heading_is_found_in_time_that_grows_with_the_text():
    for filler in ("\n", "- \n", "* "):
        assert solution_part(filler * 200_000) == 0


def test_samples_of_one_prompt_stand_together_but_not_those_of_two_problems():
    one = plan(4, {"zero_shot": 1, "plan_first": 1})
    twins = [problem(0, "Calculate 1 + 1."), problem(1, "Calculate 1 + 1.")]
    drafts = [draft for p in twins for draft in one.first(p)]
    groups = by_prompt(drafts)
    assert [places for _, places in groups] == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert all(drafts[place].prompt == prompt for prompt, places in groups for place in places)


def test_a_draft_of_a_later_round_knows_only_its_last_parent():
    draft = Draft(problem(0), 5, "find_and_fix/1", "text", 0, round=3)
    assert (draft.solution_id, draft.parent) == ("sum/0#5.3", "sum/0#5.2")
