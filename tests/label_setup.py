"""The labelling job on a scripted model: problems, solutions, command lines, a model that can die.

As in a real model in this process, a text depends on the call's seed and on its place in the call.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_gen import label, models
from prm.protocols import Chat, Generation, Prompt, SamplingParams
from prm.records import LabelledSolution, Solution
from prm.store import StoreWriter, read_records
from tests.sample_setup import problem, write_problems

TOKENS = 5
"""Of every text."""
_SUM = re.compile(r"Calculate (\d+) \+ (\d+) - (\d+)\.")


class Scripted:
    """Continues sums; every call is a line of the log, and the deadly one ends the process."""

    name = "scripted"

    def __init__(self, log: Path | None = None, deadly: int = 0, pause: float = 0.0) -> None:
        self.log, self.deadly, self.pause = log, deadly, pause
        self.calls: list[tuple[int, int]] = []
        """Seed and number of texts of each call."""

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        self.calls.append((seed, len(prompts) * params.n))
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{seed} {len(prompts) * params.n}\n")
        if len(self.calls) == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause)
        source = random.Random(seed)
        return [[self._text(prompt, source) for _ in range(params.n)] for prompt in prompts]

    def _text(self, prompt: Prompt, source: random.Random) -> Generation:
        text = _words(prompt)
        a, b, c = map(int, _SUM.findall(text)[-1])
        if "first" in text and "boxed" in text:
            return Generation(rf"\boxed{{{source.choice((0, 1, -1))}}}", "stop", 10, TOKENS)
        is_right = source.random() < (0.2 if "wrong" in text else 0.7)
        total = a + b - c + (0 if is_right else source.randint(1, 9))
        lines = f"so {source.randint(0, 99)}\nAnswer: {total}"
        return Generation(lines, "stop", 10, TOKENS)


def _words(prompt: Prompt) -> str:
    if isinstance(prompt, Chat):
        return " ".join(m.content for m in prompt.messages) + prompt.prefix
    return prompt


def stores(folder: Path, count: int, samples: int = 3) -> Path:
    """Problems, and solutions to them of three to five steps, some of them wrong."""
    problems = [problem(number) for number in range(count)]
    plain = {"name": "plain", "version": 1, "about": "the problem", "kind": "text"}
    (folder / "plain.yaml").write_text(json.dumps({**plain, "text": "{problem}\n"}))
    write_problems(folder / "problems", problems)
    source, solutions = random.Random(0), []
    for one in problems:
        for k in range(samples):
            is_right = source.random() < 0.4
            middle = [f"step {i}" for i in range(source.randint(1, 3))]
            steps = [f"begin {k % 2}", *middle, *([] if is_right else ["wrong"])]
            answer = int(one.reference_answer) + (0 if is_right else 1)
            steps.append(f"Answer: {answer}")
            solutions.append(
                Solution(f"{one.id}#{k}", one.id, tuple(steps), str(answer), "stop", "s", "hand")
            )
    with StoreWriter(folder / "solutions", job="test", config={}, config_hash="0") as writer:
        writer.append("all", solutions)
    return folder


def words(folder: Path, output: Path, **settings: Any) -> list[str]:
    """The command line."""
    usual = {
        "problems": str(folder / "problems"),
        "solutions": str(folder / "solutions"),
        "output": str(output),
        "strategy": str(folder / "plain.yaml"),
        "hold_out_pairs": False,
        "problems_per_batch": 4,
        "math_shepherd": {"num_rollouts": 4},
    }
    found = []
    for name, value in (usual | settings).items():
        found += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return found


@contextlib.contextmanager
def instead_of_models(generator: Scripted) -> Iterator[Scripted]:
    """Every model in this process is the scripted one."""
    before = models.load_generator
    models.load_generator = lambda _: generator
    try:
        yield generator
    finally:
        models.load_generator = before


def run_job(folder: Path, output: Path, **settings: Any) -> Scripted:
    """Run the job on a scripted model, which knows afterwards what it was asked."""
    with instead_of_models(Scripted()) as generator:
        label.main(words(folder, output, **settings))
    return generator


def rows(output: Path) -> list[LabelledSolution]:
    return list(read_records(output, LabelledSolution))


def data(output: Path) -> bytes:
    return (output / "shard-00000-of-00001.jsonl").read_bytes()


def main_of_a_child(log: str, deadly: str, pause: str, *command: str) -> None:
    """What a process of its own runs."""
    from data_gen.labelers import kept_rollouts

    # Small chunks: many places to die in.
    kept_rollouts.MAX_ROWS = 6
    from data_gen import label_job

    label_job.MAX_ROWS = 6
    with instead_of_models(Scripted(Path(log), int(deadly), float(pause))):
        label.main(list(command))
