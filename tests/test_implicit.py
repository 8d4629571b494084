import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from data_gen.labelers.implicit import ImplicitLabeler
from data_gen.labelers.log_likelihood import LogLikelihood
from prm.errors import ConfigError, SpecError
from prm.records import Verdict
from tests.tiny import tiny_model, tiny_model_folder, tiny_problem, tiny_solution, tiny_tokenizer

PROBLEMS = {one.id: one for one in (tiny_problem(), tiny_problem(1, (5, 6)))}
FIRST, SECOND = PROBLEMS.values()
POOL = [
    tiny_solution(FIRST, ["3 + 9 = 12", "12 + 4 = 16", "Answer: 16"], 0),
    tiny_solution(FIRST, ["3 + 9 = 12", "12 + 4 = 17", "Answer: 17"], 1),
    tiny_solution(FIRST, ["Answer: 16"], 2),
    tiny_solution(SECOND, ["5 + 6 = 11", "Answer: 11"], 0),
]


class NoRollouts:
    async def sample_many(self, requests):
        return [[] for _ in requests]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    return [str(tiny_model_folder(home / f"model-{seed}", seed)) for seed in (0, 1)]


def labeler(folders, **settings):
    policy, reference = folders
    return ImplicitLabeler(
        policy=policy, reference=reference, device="cpu", problems=PROBLEMS, **settings
    )


def plainly(folder, problem, steps):
    """The log-likelihood of each step: one solution alone, one forward pass, nothing of ours."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = tiny_tokenizer()
    pieces = [f"Problem: {problem.statement}\n", *(step + "\n" for step in steps)]
    ids = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    flat = torch.tensor([[token for piece in ids for token in piece]])
    with torch.no_grad():
        logprobs = model(flat).logits[0].double().log_softmax(-1)
    found, at = [], len(ids[0])
    for piece in ids[1:]:
        found.append(sum(logprobs[at + i - 1, token].item() for i, token in enumerate(piece)))
        at += len(piece)
    return found


def expected(folders, solution):
    ours, theirs = (
        plainly(folder, PROBLEMS[solution.problem_id], solution.steps) for folder in folders
    )
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def label(one, verdict="could_not_tell", pool=POOL):
    return one.label(pool, NoRollouts(), check=lambda _: Verdict(verdict, "test"))


def values(labelled):
    return [label.evidence[0].value for label in labelled.labels]


def test_the_value_of_a_step_is_the_log_ratio_of_two_plain_models(folders):
    found = label(labeler(folders))
    for one in found:
        assert values(one) == pytest.approx(expected(folders, one.solution), abs=1e-5, rel=1e-5)
        assert {entry.kind for part in one.labels for entry in part.evidence} == {"implicit"}
        assert {part.hard for part in one.labels} == {None}
        assert (one.stop_reason, one.first_error, one.tokens) == ("no_threshold", {}, 0)
    assert values(found[0])[0] == pytest.approx(values(found[1])[0], abs=1e-5)
    assert abs(values(found[0])[1] - values(found[1])[1]) > 1e-3


@pytest.mark.parametrize("batch_tokens", [8, 400, 4000])
def test_a_ratio_does_not_depend_on_what_is_read_beside_it(folders, batch_tokens):
    alone = [values(label(labeler(folders), pool=[one])[0]) for one in POOL]
    together = label(labeler(folders, batch_tokens=batch_tokens), pool=POOL[::-1])[::-1]
    for one, other in zip(alone, together, strict=True):
        assert values(other) == pytest.approx(one, abs=1e-5)


def test_two_equal_models_say_nothing(folders):
    for one in label(labeler([folders[0], folders[0]])):
        assert values(one) == [0.0] * len(one.labels)


def test_the_first_step_below_the_threshold_is_the_first_wrong_one(folders):
    ratios = expected(folders, POOL[0])
    beta = 0.1
    lowest = min(range(3), key=ratios.__getitem__)
    middle = (sorted(ratios)[0] + sorted(ratios)[1]) / 2
    [one] = label(labeler(folders, beta=beta, threshold=beta * middle), pool=POOL[:1])
    hard = [True] * lowest + [False] + [None] * (2 - lowest)
    assert [part.hard for part in one.labels] == hard
    assert one.first_error == {str(lowest): 1.0}
    assert one.decoder == f"beta=0.1, threshold={beta * middle}"


def test_no_step_below_it_makes_all_right_unless_the_answer_is_wrong(folders):
    low = labeler(folders, threshold=-1e9)
    assert [p.hard for p in label(low, pool=POOL[:1])[0].labels] == [True] * 3
    [one] = label(low, "wrong", POOL[:1])
    assert [part.hard for part in one.labels] == [None] * 3
    assert (one.stop_reason, one.first_error) == ("contradicts_verdict", {})


def test_what_cannot_be_read_says_why_and_has_no_label(folders):
    pool = [
        tiny_solution(FIRST, [], 3),
        tiny_solution(FIRST, ["a\nb"], 4),
        tiny_solution(FIRST, ["x" * 500], 5),
        POOL[0],
    ]
    found = label(labeler(folders, threshold=0.0, max_tokens=200), pool=pool)
    reasons = ["no_steps", "cannot_encode", "too_long"]
    assert [one.stop_reason for one in found[:3]] == reasons
    assert [part.evidence for one in found[:3] for part in one.labels] == [(), ()]
    assert {part.hard for one in found[:3] for part in one.labels} == {None}
    assert found[3].first_error


def test_models_with_other_tokens_are_refused(folders, tmp_path):
    tokenizer = tiny_tokenizer((" correct", " false"))
    tiny_model(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="have different tokens \\(2 entries"):
        label(labeler([folders[0], str(tmp_path)]))


def test_models_and_problems_must_be_named(folders, tmp_path):
    with pytest.raises(ConfigError, match="compares two models, and policy names none"):
        label(labeler(["", ""]))
    with pytest.raises(ConfigError, match="compares two models, and reference names none"):
        label(labeler([folders[0], ""]))
    with pytest.raises(ConfigError, match=r"ImplicitLabeler\(problems=\.\.\.\)"):
        ImplicitLabeler().label(POOL, NoRollouts())
    with pytest.raises(SpecError, match="no model here"):
        label(labeler([str(tmp_path), folders[0]]))


def test_the_models_are_loaded_once_for_all_batches(folders, monkeypatch):
    from data_gen.labelers import implicit

    implicit._load.cache_clear()
    loaded = []
    load = LogLikelihood.from_pretrained

    def counting(path, **settings):
        loaded.append(path)
        return load(path, **settings)

    monkeypatch.setattr(LogLikelihood, "from_pretrained", counting)
    for _ in range(3):
        label(labeler(folders), pool=POOL[:1])
    assert loaded == folders


def test_the_labeler_is_imported_without_the_libraries_of_models():
    program = (
        "import sys, data_gen.labelers.implicit; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
