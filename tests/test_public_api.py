"""The public names and their signatures, frozen; and what the commands say to wrong words."""

import inspect
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import prm.critic
import prm.scoring
import prm.search
import prm.verifiers
from prm import cli
from prm.critic import Critic
from prm.generation.server_generator import ServerGenerator
from prm.protocols import Generator, StepScorer
from prm.scoring import Scorer
from prm.steps import split_steps
from prm.traces import join_trace
from prm.verifiers import MathRule, check_code, check_math, get_verifier
from prm.verifiers.sandbox import Limits

CHECKOUT = Path(__file__).parents[1]

# A change here is a change for every user: it goes into CHANGELOG.md.
SIGNATURES = {
    Scorer.from_pretrained: (
        "(path: 'str | Path', *, spec: 'str | Path | None' = None, "
        "device: 'str | None' = None, dtype: 'str | None' = None) -> 'Scorer'"
    ),
    Scorer.score: "(self, problem: 'str', steps: 'Sequence[str]') -> 'list[float]'",
    Scorer.score_many: (
        "(self, problem: 'str', solutions: 'Sequence[Sequence[str]]') -> 'list[list[float]]'"
    ),
    Scorer.score_batch: (
        "(self, items: 'Sequence[tuple[str, Sequence[str]]]') -> 'list[list[float]]'"
    ),
    prm.scoring.aggregate: "(scores: 'Sequence[float]', how: 'Aggregate' = 'min') -> 'float'",
    split_steps: "(text: 'str') -> 'list[str]'",
    prm.search.best_of_n: (
        "(problem: 'str', generator: 'Generator', scorer: 'StepScorer', *, "
        "aggregate: 'Aggregate' = 'min', **sampling: 'Unpack[Sampling]') -> 'SearchResult'"
    ),
    prm.search.majority_vote: (
        "(problem: 'str', generator: 'Generator', **sampling: 'Unpack[Sampling]') -> 'SearchResult'"
    ),
    prm.search.weighted_vote: (
        "(problem: 'str', generator: 'Generator', scorer: 'StepScorer', *, "
        "aggregate: 'Aggregate' = 'min', **sampling: 'Unpack[Sampling]') -> 'SearchResult'"
    ),
    Critic.from_pretrained: (
        "(folder: 'str | Path', *, device: 'str | None' = None, dtype: 'str | None' = None, "
        "max_rows: 'int' = 128) -> 'Critic'"
    ),
    Critic.critique: "(self, problem: 'str', steps: 'Sequence[str]') -> 'Critique'",
    Critic.critique_many: (
        "(self, items: 'Sequence[tuple[str, Sequence[str]]]', "
        "ids: 'Sequence[str] | None' = None) -> 'list[Critique]'"
    ),
    Generator.generate: (
        "(self, prompts: 'Sequence[str]', params: 'SamplingParams', *, seed: 'int') "
        "-> 'list[list[Generation]]'"
    ),
    StepScorer.score_many: (
        "(self, problem: 'str', solutions: 'Sequence[Sequence[str]]') -> 'list[list[float]]'"
    ),
    ServerGenerator.__init__: (
        "(self, config: 'ServersConfig', model: 'str', *, store: 'RequestStore | None' = None, "
        "num_shards: 'int' = 1) -> 'None'"
    ),
    ServerGenerator.generate: (
        "(self, prompts: 'Sequence[Prompt]', params: 'SamplingParams', *, seed: 'int') "
        "-> 'list[list[Generation]]'"
    ),
    join_trace: "(steps: 'Sequence[str]', trace: 'Trace') -> 'str'",
    get_verifier: "(name: 'str') -> 'Verifier'",
    check_math: (
        f"(answer: 'str | None', reference: 'str', *, rule: 'MathRule' = {MathRule()}, "
        "pool: 'MathPool | None' = None) -> 'Verdict'"
    ),
    check_code: (
        "(program: 'str | None', task: 'CodeTask', *, sandbox: 'Sandbox | None' = None, "
        f"limits: 'Limits' = {Limits()}) -> 'Verdict'"
    ),
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_signature_is_frozen(function):
    assert str(inspect.signature(function)) == SIGNATURES[function]


def test_the_packages_export_these_names():
    assert prm.scoring.__all__ == ["Scorer", "ScorerSpec", "aggregate"]
    assert prm.search.__all__ == [
        "Candidate", "SearchResult", "best_of_n", "choose_best", "choose_by_vote",
        "majority_vote", "sample_candidates", "score_candidates", "select_best", "vote",
        "weighted_vote",
    ]  # fmt: skip
    assert "Critic" in prm.critic.__all__
    assert prm.verifiers.__all__ == [
        "CodeTask", "MathRule", "Verifiers", "check_code", "check_integer", "check_math",
        "extract_answer", "extract_boxed", "extract_final_answer", "get_verifier",
    ]  # fmt: skip
    for package in (prm.scoring, prm.search, prm.critic):
        assert all(hasattr(package, name) for name in package.__all__)


def test_the_scorer_is_a_step_scorer():
    ours = inspect.signature(Scorer.score_many)
    assert ours == inspect.signature(StepScorer.score_many)


def ended(words, capsys):
    """Exit code and what stood on stderr."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    return end.value.code, capsys.readouterr().err


def test_an_unknown_verb_ends_with_the_verbs_there_are(capsys):
    code, message = ended(["publsh"], capsys)
    assert code == 2
    assert message == "prm: unknown verb 'publsh'; there are publish, evaluate, report, cost\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_verb(words, capsys):
    cli.main(words)
    shown = capsys.readouterr().out
    assert all(f"prm {verb}" in shown for verb in ("publish", "evaluate", "report"))


@pytest.mark.parametrize("verb", ["publish", "evaluate", "report"])
def test_an_unknown_key_is_named(verb, tmp_path, capsys):
    path = tmp_path / "settings.yaml"
    path.write_text(json.dumps({"colour": "red"}))
    code, message = ended([verb, "--config", str(path)], capsys)
    assert code == 2
    assert "colour" in message
    assert f"try: prm {verb} --help" in message


@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        ("publish", ["--output", "x"], "prms"),
        ("publish", ["--prms", "[1]"], "prms"),
        ("evaluate", ["--prms", '["x"]', "--split", "train"], "split"),
        ("evaluate", ["--prms", '["x"]', "--min_trials", "few"], "min_trials"),
        ("evaluate", ["--config", "nowhere.yaml"], "nowhere.yaml"),
        ("report", [], "run"),
    ],
)
def test_wrong_settings_are_named(verb, words, said, capsys):
    code, message = ended([verb, *words], capsys)
    assert code == 2
    assert said in message


@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        ("publish", ["--prms", '{"prm": "nowhere"}', "--output", "OUT"], "nowhere: this training"),
        (
            "evaluate",
            ["--prms", '["x"]', "--solutions", "nowhere", "--output", "OUT"],
            "nowhere: no records here",
        ),
        ("report", ["--run", "nowhere"], "nowhere/evaluation/evaluation.json: no evaluation here"),
    ],
)
def test_a_missing_folder_is_a_message(verb, words, said, tmp_path, capsys):
    words = [word.replace("OUT", str(tmp_path / "out")) for word in words]
    code, message = ended([verb, *words], capsys)
    assert code == 1
    assert message.startswith(f"prm {verb}: ")
    assert said in message


JOBS = {
    "data_gen.sample": ("--problems",),
    "data_gen.label": ("--problems", "--solutions"),
    "data_gen.critiques": ("--labelled", "--problems"),
    "prm.training.train_prm": ("--labelled", "--problems"),
    "prm.training.train_critic": ("--critiques", "--labelled", "--problems"),
}


# It may be imported already; it is run anew as `python -m` does.
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("module", JOBS)
def test_a_job_without_its_input_ends_with_a_message(module, tmp_path, monkeypatch, capsys):
    words = [word for name in JOBS[module] for word in (name, str(tmp_path / "nowhere"))]
    monkeypatch.setattr(sys, "argv", [module, *words, "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert f"python -m {module}: StoreError: {tmp_path / 'nowhere'}: no records" in said


def test_a_process_ends_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "data_gen.critiques", "--labelled", str(tmp_path / "nowhere")],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("python -m data_gen.critiques: StoreError: ")
    assert done.stderr.count("\n") == 1
