"""The jobs problems, sample and label in a row, on the tiny model."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_gen import label, problems, sample
from data_gen.arithmetic import is_held_out
from data_gen.console import batches, progress
from data_gen.models import ModelConfig, load_generator, seed_of
from data_gen.prompting import load_strategy
from prm.errors import ConfigError, RecordError, StoreError
from prm.generation.in_process import TransformersGenerator
from prm.records import LabelledSolution, Problem, Solution
from prm.steps import split_steps
from prm.store import StoreWriter, content_hash, read_manifests, read_records, unique

CHECKOUT = Path(__file__).parents[1]
NUM_SAMPLES = 3
SIZES = {"train": 8, "selection": 3, "test": 3}


def model(key, folder):
    return [
        *(f"--{key}.model", str(folder), f"--{key}.device", "cpu"),
        *(f"--{key}.dtype", "float32"),
    ]


def words(job, problems_folder, output, tiny_folder, *more):
    """The command line of sample or label."""
    key = {"sample": "generator", "label": "completer"}[job]
    return [
        *("--problems", str(problems_folder), "--output", str(output)),
        *model(key, tiny_folder),
        *("--sampling.max_tokens", "12", "--problems_per_batch", "2"),
        *(("--sampling.n", str(NUM_SAMPLES)) if job == "sample" else ()),
        *more,
    ]


def rows(folder, cls):
    return list(read_records(folder, cls))


def data(folder):
    """The bytes of all records of a store."""
    return [path.read_bytes() for path in sorted(Path(folder).glob("*.jsonl"))]


def counts(folder):
    """in, out and skipped of all shards together."""
    manifests = read_manifests(folder)
    skipped = sum((Counter(one["skipped"]) for one in manifests), Counter())
    return sum(one["in"] for one in manifests), sum(one["out"] for one in manifests), skipped


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The store of problems."""
    folder = tmp_path_factory.mktemp("jobs") / "problems"
    problems.main(["--output", str(folder), "--sizes", json.dumps(SIZES)])
    return folder


@pytest.fixture(scope="module")
def sampled(made, tiny_folder):
    """The store of solutions that the tiny model writes."""
    folder = made.parent / "solutions"
    sample.main(words("sample", made, folder, tiny_folder))
    return folder


def written(problem, steps, k):
    """A solution by hand."""
    return Solution(
        id=f"{problem.id}#{k}",
        problem_id=problem.id,
        steps=tuple(steps),
        final_answer=steps[-1].removeprefix("Answer: "),
        finish_reason="stop",
        strategy="by hand",
        model="hand",
    )


def store(folder, records):
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", records)
    return folder


@pytest.fixture(scope="module")
def by_hand(made):
    """A store with a right and a wrong solution of each problem."""
    solutions = []
    for problem in read_records(made, Problem):
        a, b, c = problem.meta["operands"]
        # Three off: among these wrong totals are some whose next sum is held out.
        for k, total in enumerate((a + b, a + b + 3)):
            steps = [f"Step 1: {a} + {b} = {total}", f"Step 2: {total} + {c} = {total + c}"]
            solutions.append(written(problem, [*steps, f"Answer: {total + c}"], k))
    return store(made.parent / "by-hand", solutions)


SMALL = ("--math_shepherd.num_rollouts", "4", "--splits", '["train", "selection"]')


@pytest.fixture(scope="module")
def labelled(made, by_hand, tiny_folder):
    """The store of labels of the solutions by hand; the tiny model continues."""
    folder = made.parent / "labels"
    label.main(words("label", made, folder, tiny_folder, "--solutions", str(by_hand), *SMALL))
    return folder


@dataclasses.dataclass(frozen=True)
class Job:
    """sample or label: how to start it, what it writes, and what it has written undisturbed."""

    name: str
    main: Callable[[list[str]], None]
    record: type
    whole: Path
    options: tuple[str, ...]
    tiny_folder: Path

    def words(self, problems_folder, output, *more):
        return words(self.name, problems_folder, output, self.tiny_folder, *self.options, *more)


@pytest.fixture(params=["sample", "label"])
def job(request, by_hand, sampled, labelled, tiny_folder):
    if request.param == "sample":
        return Job("sample", sample.main, Solution, sampled, (), tiny_folder)
    options = ("--solutions", str(by_hand), *SMALL)
    return Job("label", label.main, LabelledSolution, labelled, options, tiny_folder)


def test_problems_are_made_once_and_again_the_same(made, tmp_path, capsys):
    assert counts(made) == (14, 14, Counter())
    before = data(made)
    for folder in (made, tmp_path):
        problems.main(["--output", str(folder), "--sizes", json.dumps(SIZES)])
        assert data(folder) == before
    assert "problems: in 14 = out 14 + skipped 0 ->" in capsys.readouterr().out


def test_a_split_that_does_not_exist_ends_the_job(tmp_path):
    with pytest.raises(ConfigError, match="dev"):
        problems.main(["--output", str(tmp_path), "--sizes", '{"dev": 3}'])


def test_every_problem_has_its_samples(made, sampled, tiny_folder):
    solutions = unique(read_records(sampled, Solution), "here")
    num_in, num_out, skipped = counts(sampled)
    assert num_in == num_out + skipped.total() == 14 * NUM_SAMPLES
    expected = {f"{p.id}#{k}" for p in rows(made, Problem) for k in range(NUM_SAMPLES)}
    assert {one.id for one in solutions} <= expected
    assert len(solutions) == num_out > 0
    for one in solutions:
        assert one.id == f"{one.problem_id}#{one.id.rpartition('#')[2]}"
        assert one.model == tiny_folder.name
        assert split_steps("\n".join(one.steps)) == list(one.steps)
        assert "n" not in one.sampling
        assert one.logprob < 0
        assert math.isfinite(one.logprob)
        assert 0 < one.usage.generated_tokens <= 12
    # A seed for each batch of two problems.
    assert len({one.seed for one in solutions}) == 7


def test_the_manifest_says_what_was_read_and_spent(made, sampled):
    [manifest] = read_manifests(sampled)
    assert manifest["inputs"]["problems"] == content_hash(made)
    assert manifest["state"] == "done"
    solutions = rows(sampled, Solution)
    assert manifest["ledger"]["generated_tokens"] >= sum(
        s.usage.generated_tokens for s in solutions
    )
    per_problem = {s.problem_id: s.usage.prompt_tokens for s in solutions}
    assert manifest["ledger"]["prompt_tokens"] == sum(per_problem.values())


def test_the_prompt_of_a_sample_is_the_strategy_with_the_problem(made, sampled):
    strategy = load_strategy("few_shot_arithmetic")
    problem = {p.id: p for p in rows(made, Problem)}
    for one in rows(sampled, Solution):
        # One token a character.
        assert one.usage.prompt_tokens == len(strategy.render(problem[one.problem_id]))
        assert one.strategy == strategy.id


def test_a_text_without_any_step_is_skipped_and_counted(made, tiny_folder, tmp_path, capsys):
    # Cut off in its thoughts, or ended before the first letter.
    thinks = ("--opens_thinking", "true", "--steps_from", "answer", "--sampling.max_tokens", "1")
    sample.main(words("sample", made, tmp_path, tiny_folder, *thinks))
    assert counts(tmp_path) == (14 * NUM_SAMPLES, 0, Counter(no_steps=14 * NUM_SAMPLES))
    assert "= out 0 + skipped 42 (42 no_steps)" in " ".join(capsys.readouterr().out.split())


def test_solutions_of_the_model_get_labels(made, sampled, tiny_folder, tmp_path):
    more = ("--solutions", str(sampled), "--math_shepherd.num_rollouts", "2")
    label.main(words("label", made, tmp_path, tiny_folder, *more))
    solutions = {one.id: one for one in rows(sampled, Solution)}
    split = {p.id: p.split for p in rows(made, Problem)}
    found = {row.id: row for row in rows(tmp_path, LabelledSolution)}
    num_in, num_out, skipped = counts(tmp_path)
    assert num_in == len(solutions) == num_out + skipped.total()
    assert set(skipped) <= {"other_split", "held_out_pair"}
    assert {split[row.solution.problem_id] for row in found.values()} == {"train"}
    for row in found.values():
        assert row.solution == solutions[row.id]
        assert len(row.labels) == len(row.solution.steps)


def test_labels_of_known_solutions_are_right(made, by_hand, labelled):
    answers = {p.id: p.reference_answer for p in rows(made, Problem)}
    for row in rows(labelled, LabelledSolution):
        right = row.solution.final_answer == answers[row.solution.problem_id]
        assert row.verdict.status == ("right" if right else "wrong")
        last = row.labels[-1]
        assert (last.successes, last.trials) == (int(right), 1)
        own = row.labels[0].evidence[0]
        assert (own.kind, own.successes, own.trials) == ("siblings", int(right), 1)
        # The tiny model writes no answers: nothing that it does may become a label.
        rollouts = [one for one in row.labels[0].evidence if one.kind == "rollouts"]
        assert [(one.trials, one.tokens > 0) for one in rollouts] == [(0, True)]
        assert row.labels[0].hard is None
        assert row.stop_reason == "undecided"
    order = [one.id for one in rows(by_hand, Solution)]
    found = [row.id for row in rows(labelled, LabelledSolution)]
    assert len(found) > 0
    assert sorted(found, key=order.index) == found


def test_equations_join_the_evidence_only_where_they_are_asked_for(
    made, by_hand, labelled, tiny_folder, tmp_path
):
    more = ("--solutions", str(by_hand), *SMALL, "--equations", "true")
    label.main(words("label", made, tmp_path, tiny_folder, *more))
    found, before = rows(tmp_path, LabelledSolution), rows(labelled, LabelledSolution)
    kinds = [one.kind for row in found for step in row.labels for one in step.evidence]
    assert kinds.count("equations") >= len(found)
    assert not any(
        one.kind == "equations" for row in before for step in row.labels for one in step.evidence
    )
    assert [row.labels[0].hard for row in found] == [row.labels[0].hard for row in before]


def test_solutions_of_other_splits_and_with_held_out_pairs_are_counted(made, by_hand, labelled):
    split = {p.id: p.split for p in rows(made, Problem)}
    expected = Counter()
    for one in rows(by_hand, Solution):
        a, b = (int(word) for word in (one.steps[0].split()[2], one.steps[0].split()[4]))
        total, c = (int(word) for word in (one.steps[1].split()[2], one.steps[1].split()[4]))
        if split[one.problem_id] == "test":
            expected["other_split"] += 1
        elif split[one.problem_id] == "train" and (
            is_held_out((a, "+", b)) or is_held_out((total, "+", c))
        ):
            expected["held_out_pair"] += 1
    num_in, num_out, skipped = counts(labelled)
    assert skipped == expected
    assert set(expected) == {"other_split", "held_out_pair"}
    assert num_in == 28 == num_out + skipped.total()


@pytest.mark.parametrize(
    ("flag", "held_out"), [((), 1), (("--hold_out_pairs", "false"), 0)], ids=["on", "off"]
)
def test_held_out_pairs_are_skipped_in_training_only(flag, held_out, made, tiny_folder, tmp_path):
    assert is_held_out((7, "+", 4))
    chosen = {p.split: p for p in rows(made, Problem)}
    solutions = [
        written(chosen[split], ["so 7+4 is 11", "Answer: 1"], 0) for split in ("train", "selection")
    ]
    solutions.append(written(chosen["train"], ["so 1 is 1", "Answer: 1"], 1))
    hand = store(tmp_path / "hand", solutions)
    out = tmp_path / "labels"
    label.main(words("label", made, out, tiny_folder, "--solutions", str(hand), *SMALL, *flag))
    assert counts(out) == (3, 3 - held_out, Counter(held_out_pair=held_out) if held_out else {})
    assert chosen["selection"].id in {
        row.solution.problem_id for row in rows(out, LabelledSolution)
    }


def test_exhaustive_splits_get_every_rollout(made, by_hand, tiny_folder, tmp_path):
    more = ("--solutions", str(by_hand), *SMALL, "--exhaustive_splits", '["selection"]')
    label.main(words("label", made, tmp_path, tiny_folder, *more, "--sampling.max_tokens", "3"))
    split = {p.id: p.split for p in rows(made, Problem)}
    tokens = {"train": set(), "selection": set()}
    for row in rows(tmp_path, LabelledSolution):
        tokens[split[row.solution.problem_id]].add(row.labels[0].tokens)
    # Four rollouts of up to three tokens; elsewhere the sibling takes the place of one.
    assert max(tokens["train"]) <= 3 * 3 < max(tokens["selection"]) <= 4 * 3


def test_a_solution_of_an_unknown_problem_is_an_error(made, tiny_folder, tmp_path):
    stranger = dataclasses.replace(rows(made, Problem)[0], id="arithmetic/other")
    hand = store(tmp_path / "hand", [written(stranger, ["Answer: 1"], 0)])
    more = ("--solutions", str(hand))
    with pytest.raises(RecordError, match="'arithmetic/other#0' is of problem 'arithmetic/other'"):
        label.main(words("label", made, tmp_path / "labels", tiny_folder, *more))


def test_a_problem_that_occurs_twice_is_an_error(made, tiny_folder, tmp_path):
    double = store(tmp_path / "double", rows(made, Problem)[:1] * 2)
    with pytest.raises(RecordError, match="occurs twice"):
        sample.main(words("sample", double, tmp_path / "out", tiny_folder))


def test_other_settings_or_inputs_are_refused_where_the_output_lies(job, made, tmp_path):
    before = data(job.whole)
    with pytest.raises(StoreError, match="seed was 0, now 1"):
        job.main(job.words(made, job.whole, "--seed", "1"))
    reordered = store(tmp_path / "reordered", rows(made, Problem)[::-1])
    with pytest.raises(StoreError, match="another inputs"):
        job.main(job.words(reordered, job.whole))
    job.main(job.words(made, job.whole))
    assert data(job.whole) == before


class Killed(Exception):
    pass


def kill_after(monkeypatch, num_calls):
    """The generator does its work so often, then the process ends."""
    generate, calls = TransformersGenerator.generate, []

    def dying(self, *args, **kwargs):
        if len(calls) >= num_calls:
            raise Killed
        calls.append(1)
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(TransformersGenerator, "generate", dying)


@pytest.mark.parametrize("num_calls", [0, 1, 3, 6])
def test_a_job_that_was_ended_goes_on_to_the_same_records(job, num_calls, made, tmp_path):
    command = job.words(made, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, num_calls)
        with pytest.raises(Killed):
            job.main(command)
    with pytest.raises(StoreError, match="not finished"):
        rows(tmp_path, job.record)
    job.main(command)
    assert data(tmp_path) == data(job.whole)
    assert counts(tmp_path) == counts(job.whole)


def test_no_two_calls_of_the_generator_have_the_same_seed(job, made, tmp_path):
    generate, seeds = TransformersGenerator.generate, []

    def watched(self, prompts, params, *, seed):
        seeds.append(seed)
        return generate(self, prompts, params, seed=seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformersGenerator, "generate", watched)
        for shard in ("0/2", "1/2"):
            job.main(job.words(made, tmp_path, "--shard", shard))
    # Seven batches in one shard, at least as many in two.
    assert len(set(seeds)) == len(seeds) >= 7


def finished_batches(folder):
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.journal"))


def test_a_killed_process_goes_on_to_the_same_records(job, made, tmp_path):
    more = ("--problems_per_batch", "1", "--sampling.max_tokens", "40")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = job.words(made, killed, *more)
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-m", f"data_gen.{job.name}", *command],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while finished_batches(killed) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 2 <= finished_batches(killed) < 14
    job.main(command)
    job.main(job.words(made, whole, *more))
    assert data(killed) == data(whole)
    assert counts(killed) == counts(whole)


def test_shards_together_give_what_one_run_gives(job, made, tmp_path):
    # Greedy: the shards have seeds of their own.
    more = ("--sampling.temperature", "0")
    job.main(job.words(made, tmp_path / "one", *more))
    for index in (2, 0, 1):
        job.main(job.words(made, tmp_path / "three", *more, "--shard", f"{index}/3"))
    one = {row.id: row for row in rows(tmp_path / "one", job.record)}
    three = {row.id: row for row in unique(read_records(tmp_path / "three", job.record), "here")}
    assert set(one) == set(three)
    assert counts(tmp_path / "one") == counts(tmp_path / "three")
    if job.name == "sample":
        texts = [{id: row.steps for id, row in rows.items()} for rows in (one, three)]
        assert texts[0] == texts[1]
    else:
        assert one == three


def test_a_missing_shard_stops_the_next_job(made, tiny_folder, tmp_path):
    sample.main(words("sample", made, tmp_path, tiny_folder, "--shard", "1/2"))
    more = ("--solutions", str(tmp_path))
    with pytest.raises(StoreError, match="shard-00000-of-00002 is not finished"):
        label.main(words("label", made, tmp_path / "labels", tiny_folder, *more))


def test_a_model_is_loaded_as_the_settings_say(tiny_folder):
    config = ModelConfig(model=str(tiny_folder), dtype="float32", device="cpu", max_rows=3)
    generator = load_generator(config)
    assert (generator.name, generator.max_rows) == (tiny_folder.name, 3)
    assert generator.model.dtype == torch.float32


def test_every_part_of_a_job_has_a_seed_of_its_own_that_repeats():
    names = [("sample", "0/1", 0), ("sample", "0/1", 1), ("sample", "0/2", 0), ("label", "0/1", 0)]
    seeds = {seed_of(seed, *name) for seed in (0, 1) for name in names}
    assert len(seeds) == 8
    assert seed_of(0, *names[0]) == seed_of(0, *names[0])
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_batches_hold_every_item_in_order(size):
    items = list(range(7))
    made = batches(iter(items), size)
    assert [item for batch in made for item in batch] == items
    assert all(len(batch) == size for batch in made[:-1])
    assert batches([], size) == []


@pytest.mark.parametrize("count", [0, 1, 9, 10, 25, 1000])
def test_progress_gives_every_item_and_about_ten_lines(count, capsys):
    assert list(progress(range(count), "work")) == list(range(count))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 13
    if count:
        assert lines[-1] == f"work: {count}/{count}"
