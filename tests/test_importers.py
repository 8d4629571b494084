"""Rows of each format, with its traps, as solutions and labels; and several annotators as one."""

import pytest

from data_gen.importing import FORMATS, Imported, Options, Said, merge
from data_gen.importing.imported import RIGHT, SILENT, WRONG
from prm.errors import RecordError
from prm.records import Evidence, LabelledSolution, Opinion, from_json, to_json

WHERE = "rows.jsonl:7"


def read(name, row, **options):
    """The solutions, and the reasons why others are left out."""
    found = list(FORMATS[name].read_row(row, Options(**options), WHERE))
    return (
        [one for one in found if isinstance(one, Imported)],
        [one for one in found if isinstance(one, str)],
    )


def hard(one):
    return [label.hard for label in one.labels]


def labelled(*rows):
    return merge(rows, "p/1#0", "p/1")


def step(*completions, chosen=0, human=None):
    """A step of PRM800K; a completion is (text, rating) or (text, rating, flagged)."""
    return {
        "completions": [
            {"text": one[0], "rating": one[1], "flagged": one[2] if len(one) > 2 else False}
            for one in completions
        ],
        "human_completion": human and {"text": human, "rating": None, "source": "human"},
        "chosen_completion": chosen,
    }


def prm800k(*steps, finish="solution", generation=None, **more):
    return {
        "labeler": "e90a",
        "timestamp": "2022-07-30T23:23:32.118856",
        "generation": generation,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "How much?", "ground_truth_answer": "29"}
        | more.pop("question", {}),
        "label": {"steps": list(steps), "total_time": 1, "finish_reason": finish},
    } | more


LAST = step(("It is 29.\n\n# Answer\n\n29", 1))


def test_the_trace_of_prm800k_goes_through_the_chosen_completions():
    row = prm800k(step(("a", 1)), step(("b", -1), ("c", 1), chosen=1), LAST)
    [alternative, trace], skipped = read("prm800k", row)
    assert (trace.steps, skipped) == (("a", "c", "It is 29.\n\n# Answer\n\n29"), [])
    assert (trace.final_answer, trace.final_is_right, trace.finish_reason) == ("29", True, "stop")
    assert trace.hard_labels() == [True, True, True]
    assert (alternative.steps, alternative.hard_labels()) == (("a", "b"), [True, False])
    assert (alternative.finish_reason, alternative.final_is_right) == ("cut", None)


def test_a_step_that_the_labeler_wrote_is_a_right_one_of_the_trace():
    row = prm800k(step(("a", -1), ("b", -1), chosen=None, human="mine"), LAST)
    *wrong, trace = read("prm800k", row)[0]
    assert trace.steps[0] == "mine"
    assert trace.said[0] == Said(True, 1, 1, None, "written")
    assert [(one.steps, one.hard_labels()) for one in wrong] == [
        (("a",), [False]),
        (("b",), [False]),
    ]


def test_the_odd_last_step_of_phase_2_ends_the_trace_with_the_step_of_the_solution():
    made = {"pre_generated_steps": ["a", "its own", "and so on"]}
    odd = step(("other", 1), ("its own", -1), ("third", -1), chosen=None)
    row = prm800k(step(("a", 1)), odd, finish="found_error", generation=6, question=made)
    *others, trace = read("prm800k", row)[0]
    assert (trace.steps, trace.hard_labels()) == (("a", "its own"), [True, False])
    assert [one.steps[-1] for one in others] == ["other", "third"]
    assert trace.finish_reason == "cut"
    assert trace.final_is_right is None
    assert (trace.meta["phase"], trace.first_error()) == (2, "1")


def test_completions_may_be_null_where_the_labeler_stopped():
    nothing = {"completions": None, "human_completion": None, "chosen_completion": None}
    [trace], skipped = read("prm800k", prm800k(step(("a", 1)), nothing))
    assert (trace.steps, skipped) == (("a",), [])
    [trace], skipped = read("prm800k", prm800k(step(("a", 1)), nothing, LAST))
    assert (trace.steps, skipped) == (("a",), ["behind_the_end"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": {"steps": [LAST], "finish_reason": "bad_problem"}}, "bad_problem"),
        ({"label": {"steps": [LAST], "finish_reason": "give_up"}}, "give_up"),
        ({"is_quality_control_question": True}, "quality_control"),
        ({"is_initial_screening_question": True}, "initial_screening"),
    ],
)
def test_rows_of_prm800k_that_are_no_labels_are_left_out_by_reason(change, reason):
    assert read("prm800k", prm800k(LAST) | change) == ([], [reason])


@pytest.mark.parametrize(
    ("neutral", "expected", "place", "counts"),
    [
        ("good", [True, True, True], "none", (1, 1)),
        ("bad", [True, False, None], "1", (0, 1)),
        ("unknown", [True, None, True], None, (0, 0)),
    ],
)
def test_neutral_is_a_flag_that_is_kept_however_it_is_read(neutral, expected, place, counts):
    row = prm800k(step(("a", 1)), step(("b", 0)), LAST)
    [trace], _ = read("prm800k", row, neutral=neutral)
    assert (trace.hard_labels(), trace.first_error()) == (expected, place)
    assert trace.evidence(1) == (
        Evidence(
            "human", *counts, "prm800k", 0, None,
            "e90a", "2022-07-30T23:23:32.118856", 0.0, "neutral",
        ),
    )  # fmt: skip


def test_a_flagged_step_is_not_known_and_a_step_without_a_rating_says_nothing():
    row = prm800k(step(("a", 1, True)), step(("b", None)), LAST)
    [trace], _ = read("prm800k", row)
    assert trace.hard_labels() == [None, None, True]
    assert [len(trace.evidence(t)) for t in range(3)] == [1, 0, 1]
    row = prm800k(step(("a", 1), ("b", None), ("c", -1, True)), LAST)
    assert read("prm800k", row)[1] == ["unrated_alternative"] * 2


def test_alternatives_are_counted_when_they_are_not_wanted_or_lie_behind_an_error():
    row = prm800k(step(("a", -1)), step(("b", 1), ("c", -1)), LAST)
    assert read("prm800k", row)[1] == ["alternative_behind_first_error"]
    [trace], skipped = read("prm800k", row, alternatives=False)
    assert (len(trace.steps), skipped) == (3, ["alternative"])


def shepherd(text, marks):
    label = text
    for mark in marks:
        label = label.replace("ки", mark, 1)
    return {"input": text, "label": label, "task": "GSM8K"}


def test_math_shepherd_has_a_mark_for_each_tag_and_the_first_step_beside_the_statement():
    text = "How many? Step 1: 3 + 4 = 7. ки\nStep 2: So 8. ки\nStep 3: The answer is: 8 ки"
    [one], _ = read("math_shepherd", shepherd(text, "+-+"))
    assert one.statement == "How many?"
    assert one.steps == ("Step 1: 3 + 4 = 7.", "Step 2: So 8.", "Step 3: The answer is: 8")
    done = labelled(one)
    assert (hard(done), done.first_error, done.opinions) == ([True, False, None], {"1": 1.0}, ())
    # The last + is no label, and kept; a hard estimate is no success rate.
    assert done.labels[2].evidence[0].successes == 1
    assert {label.success_rate for label in done.labels} == {None}
    assert (done.solution.final_answer, done.verdict.status) == ("8", "right")
    assert done.labels[0].evidence[0].note == "hard estimate"


def test_a_tag_inside_the_statement_labels_no_step():
    text = "Parker has ки 3. How many? Step 1: 3. ки\nStep 2: The answer is: 4 ки"
    [one], _ = read("math_shepherd", shepherd(text, "-+-"))
    assert one.statement == "Parker has  3. How many?"
    assert (one.steps[0], one.hard_labels()) == ("Step 1: 3.", [True, False])


def test_math_shepherd_without_numbers_and_behind_its_last_tag():
    [one], _ = read("math_shepherd", shepherd("How? 3. ки\nand more", "+"))
    assert (one.statement, one.steps) == ("How?", ("3.", "and more"))
    assert (one.hard_labels(), one.finish_reason, one.final_is_right) == ([True, None], "cut", None)
    assert read("math_shepherd", shepherd("Find it. 3. ки", "+")) == ([], ["no_first_step"])


@pytest.mark.parametrize(
    "label", ["How? Step 1: 3. *", "How? Step 1: 4. +", "How? Step 1: 3. + more", "How?"]
)
def test_a_label_that_is_not_the_input_with_marks_is_an_error(label):
    with pytest.raises(RecordError, match=r"rows.jsonl:7: `label` .*--on_bad_row skip"):
        read("math_shepherd", {"input": "How? Step 1: 3. ки", "label": label})


BENCH = {
    "id": "gsm8k-0",
    "generator": "Qwen2-7B-Instruct",
    "problem": "How many?",
    "steps": ["a", "b", "c"],
    "final_answer_correct": False,
    "label": 1,
}


def test_processbench_labels_up_to_the_first_error_and_nothing_behind_it():
    [one], _ = read("processbench", BENCH)
    assert one.said == (RIGHT, WRONG, SILENT)
    done = labelled(one)
    assert (hard(done), done.first_error) == ([True, False, None], {"1": 1.0})
    assert [label.prefix_correct for label in done.labels] == [1.0, 0.0, 0.0]
    assert [label.trials for label in done.labels] == [1, 1, 0]
    assert (done.verdict.status, done.stop_reason) == ("wrong", "first_error_found")
    assert done.opinions == (Opinion("human", {"1": 1}, "processbench"),)
    assert (done.solution.model, done.solution.sampling["id"]) == ("Qwen2-7B-Instruct", "gsm8k-0")


def test_minus_one_of_processbench_means_no_error_whatever_the_answer():
    [one], _ = read("processbench", BENCH | {"label": -1})
    done = labelled(one)
    assert (hard(done), done.first_error, done.verdict.status) == (
        [True] * 3,
        {"none": 1.0},
        "wrong",
    )


GRADED = {
    "uuid": "bd29",
    "question": "How many?",
    "ground_truth_answer": 5,
    "question_type": "original",
    "model_output_steps": ["Step 1: a", "Step 2: b"],
    "model_output_answer_correctness": "correct",
    "model_output_solution_correctness": "wrong",
    "model_output_solution_first_error_step": 1,
    "model_output_solution_first_error_reason": "No.",
}


@pytest.mark.parametrize("number", [1, "1", " 1 "])
def test_mr_gsm8k_counts_steps_from_one(number):
    [one], _ = read("mr_gsm8k", GRADED | {"model_output_solution_first_error_step": number})
    assert (one.hard_labels(), one.reference_answer) == ([False, None], "5")
    # A right answer by a wrong way.
    assert (labelled(one).verdict.status, one.first_error()) == ("right", "0")


def test_a_right_solution_of_mr_gsm8k_has_no_step_number():
    row = GRADED | {
        "model_output_solution_correctness": "correct",
        "model_output_solution_first_error_step": "N/A",
    }
    assert read("mr_gsm8k", row)[0][0].hard_labels() == [True, True]
    for number in ("N/A", 0, 3):
        row = GRADED | {"model_output_solution_first_error_step": number}
        with pytest.raises(RecordError, match="first"):
            read("mr_gsm8k", row)


def test_trl_rows_may_have_numbers_and_labels_behind_the_first_error():
    row = {"prompt": "How?", "completions": list("abcd"), "labels": [True, 0.25, 0.0, 1]}
    [one], _ = read("trl_stepwise", row, made_by="rollouts")
    assert (one.kind, one.hard_labels()) == ("rollouts", [True, None, False, None])
    assert one.evidence(1)[0].value == 0.25
    assert one.evidence(3)[0].successes == 1
    for labels in ([True], [True, 2, 0, 1], "1011", None):
        with pytest.raises(RecordError, match="label"):
            read("trl_stepwise", row | {"labels": labels})


QUESTION = "Find $x$."


def tree(*nodes):
    """Of MATH-APS, by what stands behind the question."""
    return {
        "question": QUESTION,
        "final_answer": "64",
        "question_id": "q1",
        "reasoning_steps": [{"solution_prefix": QUESTION + t, "mc_value": v} for t, v in nodes],
    }


TREE = tree(
    ("", 0.75),
    ("\n\nFirst", 0.5),
    ("\n\nFirst\n\nthen \\boxed{64}", 1.0),
    ("\n\nFirst\n\nbut wrong", 0.0),
    ("\n\nFirst\n\nbut wrong\n\n\\boxed{3}", 0.0),
    ("\n\nFirst\n\nbut wrong ", 0.25),
    ("\n\nOther", 0.125),
)


def test_each_path_through_a_tree_is_a_solution_with_the_rates_of_its_prefixes():
    found, skipped = read("math_aps", TREE)
    assert skipped == []
    assert {one.steps: [said.success_rate for said in one.said] for one in found} == {
        ("First", "then \\boxed{64}"): [0.5, 1.0],
        # Measured twice, with and without a blank at its end: the mean.
        ("First", "but wrong", "\\boxed{3}"): [0.5, 0.125, 0.0],
        ("Other",): [0.125],
    }
    [right] = [one for one in found if one.final_answer == "64"]
    assert (right.final_is_right, right.said[-1].note) == (True, "unmeasured")
    [wrong] = [one for one in found if one.final_answer == "3"]
    assert (wrong.hard_labels(), wrong.final_is_right) == ([True, True, False], False)
    done = labelled(wrong)
    assert [label.trials for label in done.labels] == [0, 0, 0]
    assert [label.evidence[0].value for label in done.labels] == [0.5, 0.125, 0.0]


def test_rates_become_counts_when_the_number_of_rollouts_is_given():
    done = labelled(read("math_aps", TREE, rollouts_per_prefix=8, min_success_rate=0.2)[0][1])
    assert [(label.successes, label.trials) for label in done.labels] == [(4, 8), (2, 16), (0, 8)]
    # Above the rate good, at 0 wrong, between undecided: the first error may be there.
    assert (hard(done), done.first_error) == ([True, None, None], {})
    assert done.stop_reason == "undecided"
    assert (done.root_successes, done.root_trials) == (6, 8)
    with pytest.raises(RecordError, match="no share of 3"):
        read("math_aps", TREE, rollouts_per_prefix=3)


def test_a_tree_of_the_question_alone_has_no_solution():
    assert read("math_aps", tree(("", 0.5))) == ([], ["no_steps"])
    row = tree(("", 0.5)) | {"reasoning_steps": [{"solution_prefix": "Else", "mc_value": 1.0}]}
    with pytest.raises(RecordError, match="does not begin with the question"):
        read("math_aps", row)
    with pytest.raises(RecordError, match="mc_value should be from 0 to 1"):
        read("math_aps", tree(("", 1.5)))


HOUSE = {
    "id": "felm-1",
    "problem_id": "e791",
    "source": "felm/math",
    "generator": "ChatGPT",
    "problem": "How many?",
    "answer": None,
    "steps": ["a", "b", "c"],
    "first_error": 1,
    "final_answer_correct": None,
    "step_labels": [1, 0, 1],
}


def test_labels_of_every_step_are_kept_behind_the_first_error_as_evidence_only():
    [one], _ = read("step_labels", HOUSE)
    done = labelled(one)
    assert (hard(done), done.first_error) == ([True, False, None], {"1": 1.0})
    assert [label.evidence[0].successes for label in done.labels] == [1, 0, 1]
    assert (one.source, one.author, done.verdict.status) == ("felm", "felm/math", "could_not_tell")


def test_a_zero_without_an_error_is_a_neutral_step():
    row = HOUSE | {"first_error": -1}
    assert read("step_labels", row, neutral="bad")[0][0].hard_labels() == [True, False, None]
    [one], _ = read("step_labels", row)
    assert (one.first_error(), one.said[1].note) == ("none", "neutral")


def test_labels_that_are_not_made_by_people_are_not_called_theirs():
    kinds = {
        source: read("step_labels", HOUSE | {"source": source})[0][0].kind
        for source in ("prmbench/circular", "parc/gsm8k/negatives", "mr_ben/college_math")
    } | {
        "dyck": read("step_labels", HOUSE | {"source": "bigbench_mistake/dyck_languages"})[0][
            0
        ].kind
    }
    assert kinds == {
        "prmbench/circular": "judge",
        "parc/gsm8k/negatives": "judge",
        "mr_ben/college_math": "human",
        "dyck": "program",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"first_error": 3},
        {"first_error": -2},
        {"first_error": 0},
        {"first_error": "1"},
        {"step_labels": [1, 0]},
        {"step_labels": [1, 0, 2]},
        {"step_labels": [1, [0], 1]},
        {"problem": "How \ud83d?"},
        {"steps": ["a", "\ude00 b", "c"]},
        {"answer": "\ud83d"},
        {"steps": "abc"},
        {"final_answer_correct": 1},
        {"problem": None},
    ],
)
def test_a_bad_row_names_its_place_and_what_to_do(change):
    with pytest.raises(RecordError, match=r"rows\.jsonl:7.*--on_bad_row skip"):
        read("step_labels", HOUSE | change)


ROWS = {
    "prm800k": prm800k(step(("a", 1), ("b", 0)), LAST),
    "math_shepherd": shepherd("How? Step 1: 3. ки\nStep 2: 4 ки", "+-"),
    "processbench": BENCH,
    "mr_gsm8k": GRADED,
    "trl_stepwise": {"prompt": "How?", "completions": ["a"], "labels": [True]},
    "math_aps": TREE,
    "step_labels": HOUSE,
}


# What says nothing of the labels: it may be absent.
FREE = {"task", "generator", "question_type", "question_id", "answer", "problem_id", "meta"}
FREE |= {"final_answer_correct", "is_quality_control_question", "is_initial_screening_question"}
FREE |= {
    "ground_truth_answer",
    "final_answer",
    "generation",
    "model_output_solution_first_error_reason",
}


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, row in ROWS.items() for field in row]
)
def test_a_field_of_another_type_is_an_error_and_an_absent_one_changes_no_label(name, field):
    assert ROWS.keys() == FORMATS.keys()
    without = {key: value for key, value in ROWS[name].items() if key != field}
    if field not in {"meta", "generation", "model_output_solution_first_error_reason"}:
        with pytest.raises(RecordError, match=WHERE):
            read(name, ROWS[name] | {field: object()})
    if field == "step_labels":
        assert read(name, without)[0][0].said == (RIGHT, WRONG, SILENT)
    elif field in FREE:
        found, whole = read(name, without)[0], read(name, ROWS[name])[0]
        assert [one.said for one in found] == [one.said for one in whole]
    else:
        with pytest.raises(RecordError, match=WHERE):
            read(name, without)


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_row_gives_is_a_record_that_can_be_written_and_read(name):
    for one in read(name, ROWS[name])[0]:
        done = labelled(one)
        assert len(done.labels) == len(done.solution.steps) == len(one.steps)
        assert from_json(LabelledSolution, to_json(done), "here") == done


def seen(annotator, said, steps=("a", "b", "c")):
    return Imported("How?", steps, said, "set", "human", "set", annotator=annotator, time="t")


def test_two_annotators_who_agree_are_two_pieces_of_evidence():
    said = (RIGHT, WRONG, SILENT)
    done = labelled(seen("ann", said), seen("ben", said))
    assert (hard(done), done.first_error) == ([True, False, None], {"1": 1.0})
    assert [(label.successes, label.trials) for label in done.labels] == [(2, 2), (0, 2), (0, 0)]
    assert [opinion.author for opinion in done.opinions] == ["ann", "ben"]
    assert [entry.annotator for entry in done.labels[0].evidence] == ["ann", "ben"]


def test_where_annotators_disagree_nothing_is_known_from_there_on():
    done = labelled(seen("ann", (RIGHT, WRONG, SILENT)), seen("ben", (RIGHT, RIGHT, RIGHT)))
    assert (hard(done), done.stop_reason) == ([True, None, None], "disagreement")
    assert done.first_error == {"1": 0.5, "none": 0.5}
    assert [label.prefix_correct for label in done.labels] == [1.0, 0.5, 0.5]
    three = labelled(*(seen(who, (RIGHT, WRONG, SILENT)) for who in "ab"), seen("c", (RIGHT,) * 3))
    assert three.first_error == {"1": pytest.approx(2 / 3), "none": pytest.approx(1 / 3)}
    assert hard(three) == [True, None, None]


def test_one_who_cannot_tell_is_no_disagreement():
    unsure = Said(note="flagged")
    done = labelled(seen("ann", (RIGHT, unsure, RIGHT)), seen("ben", (RIGHT, RIGHT, WRONG)))
    assert hard(done) == [True, True, None]
    done = labelled(seen("ann", (RIGHT, unsure, unsure)), seen("ben", (RIGHT, RIGHT, WRONG)))
    assert (hard(done), done.first_error) == ([True, True, False], {"2": 1.0})


def test_behind_a_step_that_nobody_can_tell_nothing_is_known():
    for last in (WRONG, RIGHT):
        done = labelled(seen("ann", (RIGHT, Said(value=0.5), last)))
        assert (hard(done), done.stop_reason) == ([True, None, None], "undecided")
        assert done.first_error == {}
        assert done.labels[2].evidence[0].successes == last.successes


def test_solutions_with_other_steps_are_never_merged():
    with pytest.raises(RecordError, match="other steps"):
        labelled(seen("ann", (RIGHT,), ("a",)), seen("ben", (RIGHT,), ("b",)))
