"""Labels that cost no rollouts, held against people's.

    python -m benchmarks.labelling.people --data DIR [--quick] [--no-judge]

``DIR/step_labels`` holds solutions whose first wrong step people have marked (docs/data.md).

- program: `ProgramLabeler` by exact equations, on every set. People mark the first error of any
  kind, so a false equation may stand behind it: "at or behind" counts that too.
- judge: `JudgeLabeler` with the embedded model, on solutions of ProcessBench: a few that it writes
  about, and more of which it only names the index. A model of 135M parameters is no judge: what
  it says is shown beside what chance would say.
- consensus: `ConsensusFilter` over people, judge and program on the same solutions.

Shares have Wilson's 95% intervals. What the marks mean differs by set: mr_gsm8k holds only errors
that some judge model had found; in stepverify and mr_gsm8k every solution is wrong; parc has some
errors that were put in; the first set of prm800k ends at its first wrong step.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.labelling.marked import Marked, NoRollouts, by_people, load
from benchmarks.table import say, show
from data_gen.labelers.consensus import ConsensusFilter
from data_gen.labelers.judge import JudgeLabeler
from data_gen.labelers.places import NONE, place_of
from data_gen.labelers.program_labeler import ProgramLabeler
from data_gen.models import ModelConfig, load_generator
from prm.evaluation.bootstrap import wilson
from prm.protocols import ChatGenerator, SamplingParams
from prm.records import LabelledSolution

SETS = (
    "processbench/gsm8k",
    "processbench/math",
    "processbench/olympiadbench",
    "processbench/omnimath",
    "mr_gsm8k/mr_gsm8k_errors",
    "mr_math/invalid_errors",
    "mr_math/redundant_errors",
    "stepverify/stepverify",
    "prm800k_sample/phase1_prefixes",
    "prm800k_sample/phase2_first100",
    "parc/parc",
    "bigbench_mistake/multistep_arithmetic",
    "felm/felm_math_reasoning",
    "mr_ben/math",
    "mr_ben/physics",
)
JUDGED = {"processbench/gsm8k": 60, "bigbench_mistake/multistep_arithmetic": 152}
"""Solutions of each set that the embedded model judges, at most."""
WRITTEN = 12
"""Of the first of them, those that it also writes about: that takes minutes."""
QUICK = 100
"""Solutions a set, in the short form."""
WRITES = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=256)
NAMES = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=8)


def main() -> None:
    """Print the tables; without targets, for what the numbers are is what they are for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data sets")
    parser.add_argument("--quick", action="store_true", help="fewer solutions")
    parser.add_argument("--no-judge", action="store_true", help="equations only")
    options = parser.parse_args()
    sets = {name: load(options.data, name, QUICK if options.quick else None) for name in SETS}
    show_programs(sets)
    if not options.no_judge:
        model = load_generator(ModelConfig())
        for name, most in JUDGED.items():
            rows = random.Random(0).sample(sets[name], 24 if options.quick else most)
            judge_rows(name, rows, model)
        if not options.quick:
            first = next(iter(JUDGED))
            rows = random.Random(0).sample(sets[first], WRITTEN)
            judge = JudgeLabeler(votes=3, sampling=WRITES, generator=model)
            show_judge(f"{first}, writes 256 tokens at most", rows, by_judge(rows, judge))


def by_program(rows: Sequence[Marked]) -> list[LabelledSolution]:
    """The labels by equations."""
    return _label(ProgramLabeler(), rows)


def judge_rows(name: str, rows: Sequence[Marked], model: ChatGenerator) -> None:
    """Ask the model for the index alone, and look for a consensus."""
    judge = JudgeLabeler(votes=3, sampling=NAMES, at_once=True, generator=model)
    found = by_judge(rows, judge)
    show_judge(f"{name}, only names the index", rows, found)
    sources = {"people": by_people(rows), "judge": found, "program": by_program(rows)}
    say(f"{ConsensusFilter().compare(sources)}\n")


def by_judge(rows: Sequence[Marked], judge: JudgeLabeler) -> list[LabelledSolution]:
    """The labels by a judge."""
    problems = {row.problem.id: row.problem for row in rows}
    return _label(dataclasses.replace(judge, problems=problems), rows)


def _label(
    labeler: ProgramLabeler | JudgeLabeler, rows: Sequence[Marked]
) -> list[LabelledSolution]:
    verdicts = {row.solution.id: row.verdict for row in rows}
    pool = [row.solution for row in rows]
    return labeler.label(pool, NoRollouts(), check=lambda one: verdicts[one.id])


def show_programs(sets: dict[str, list[Marked]]) -> None:
    """What equations say of each set: how much, and how right."""
    says, right = [], []
    for name, rows in sets.items():
        found = by_program(rows)
        named = [(row.place, _named(one)) for row, one in zip(rows, found, strict=True)]
        is_checked = [any(label.evidence for label in one.labels) for one in found]
        errors = [pair for pair in named if pair[1] is not None]
        wrong = [pair for pair in named if pair[0] != NONE]
        alarms = [step is not None for place, step in named if place == NONE]
        says.append(
            [
                name,
                f"{len(wrong)}/{len(rows)}",
                share(is_checked),
                share([step is not None for _, step in named]),
                share([place == str(step) for place, step in wrong]),
                share(alarms),
            ]
        )
        right.append(
            [
                name,
                str(len(errors)),
                share([place != NONE for place, _ in errors]),
                share([place != NONE and int(place) <= step for place, step in errors]),
                share([place == str(step) for place, step in errors]),
            ]
        )
    columns = ("set", "wrong", "has equations", "names a step", "recall, exact", "false alarms")
    show("program: how much it says of people's marks", columns, says)
    columns = ("set", "named", "there is an error", "at or behind it", "exact")
    show("program: of the solutions of which it names a step", columns, right)


def show_judge(how: str, rows: Sequence[Marked], found: Sequence[LabelledSolution]) -> None:
    """What the small judge says, beside what chance would say."""
    votes, unread = Counter[str](), Counter[str]()
    for one in found:
        votes.update(one.opinions[0].votes)
        for entry in filter(None, one.opinions[0].note.split(", ")):
            count, reason = entry.split()
            unread[reason] += int(count)
    pairs = [(row.place, _place(one)) for row, one in zip(rows, found, strict=True)]
    wrong = [pair for pair in pairs if pair[0] != NONE]
    right = [pair for pair in pairs if pair[0] == NONE]
    decided = [place == said for place, said in pairs if said is not None]
    chance = sum(1 / (len(row.solution.steps) + 1) for row in rows) / len(rows)
    num_asked = sum(votes.values()) + sum(unread.values())
    table = [
        ["solutions (wrong)", f"{len(rows)} ({len(wrong)})"],
        ["answers read", f"{sum(votes.values())} of {num_asked}"],
        ["not read", ", ".join(f"{n} {reason}" for reason, n in unread.most_common()) or "-"],
        ["votes", ", ".join(f"{n} for {place}" for place, n in votes.most_common(6))],
        ["decided", share([said is not None for _, said in pairs])],
        ["exact, of decided", share(decided)],
        ["exact, wrong solutions", share([place == said for place, said in wrong])],
        ["exact, right solutions", share([place == said for place, said in right])],
        ["exact by chance", f"{chance:.2f}"],
        ["generated tokens a solution", f"{sum(one.tokens for one in found) / len(rows):.0f}"],
    ]
    show(f"judge: the embedded model on {how}, 3 votes", ("what", "value"), table)


def _named(one: LabelledSolution) -> int | None:
    """The step that is called the first wrong one."""
    return next((label.step for label in one.labels if label.hard is False), None)


def _place(one: LabelledSolution) -> str | None:
    """Where the hard labels put the first error; None where there are none."""
    if not any(label.hard is not None for label in one.labels):
        return None
    return place_of(_named(one))


def share(claims: Sequence[bool]) -> str:
    """How many hold, with Wilson's interval."""
    if not claims:
        return "-"
    value = wilson(sum(claims), len(claims))
    return f"{value.mean:.2f} ({value.low:.2f}-{value.high:.2f})"


if __name__ == "__main__":
    main()
