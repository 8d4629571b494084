"""Scores of all solutions of a split by one scorer or critic, kept in a file each.

A file is written whole and used again when it belongs to the same solutions and the same scorer;
so an evaluation that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prm.critic import Critic
from prm.critic.critic import step_scores
from prm.errors import EncodingError
from prm.evaluation.samples import ProblemSamples
from prm.records import Critique, Solution, build, to_json
from prm.scoring import Scorer
from prm.store import read_json, write_json

_CONTENTS = ("*.safetensors", "tokenizer.json", "critic.json")


@dataclasses.dataclass(frozen=True, slots=True)
class SplitScores:
    """Step scores by solution id, and what they cost.

    None stands for a solution that could not be scored: one that cannot be encoded, or that a
    critic could not judge.
    """

    key: str
    scores: dict[str, list[float] | None]
    tokens: int
    seconds: float


def prm_scores(
    folder: str, samples: Sequence[ProblemSamples], file: Path, dtype: str | None
) -> SplitScores:
    """Scores by a published PRM."""
    key = _key(folder, samples, dtype)
    if (kept := _read(file, key)) is not None:
        return kept
    begun = time.monotonic()
    scorer = Scorer.from_pretrained(folder, dtype=dtype)
    pairs = [
        (group.problem.statement, solution)
        for group in samples
        for solution in group.solutions
        if _can_be_scored(scorer, group.problem.statement, solution)
    ]
    rows = scorer.score_batch([(statement, solution.steps) for statement, solution in pairs])
    known = {solution.id: row for (_, solution), row in zip(pairs, rows, strict=True)}
    scores = {s.id: known.get(s.id) for group in samples for s in group.solutions}
    return _keep(file, SplitScores(key, scores, scorer.num_tokens, time.monotonic() - begun))


def critic_scores(
    folder: str, samples: Sequence[ProblemSamples], file: Path, dtype: str | None
) -> tuple[SplitScores, dict[str, Critique]]:
    """Scores and critiques by a published critic."""
    key = _key(folder, samples, dtype)
    texts = file.with_suffix(".critiques.json")
    if (kept := _read(file, key)) is not None and texts.exists():
        rows: Any = read_json(texts)
        return kept, {row["id"]: build(Critique, _bare(row), str(texts)) for row in rows["rows"]}
    begun = time.monotonic()
    critic = Critic.from_pretrained(folder, dtype=dtype)
    pairs = [(s.problem.statement, x) for s in samples for x in s.solutions]
    critiques = critic.critique_many(
        [(statement, x.steps) for statement, x in pairs], ids=[x.id for _, x in pairs]
    )
    scores = {
        x.id: step_scores(critique, len(x.steps))
        for (_, x), critique in zip(pairs, critiques, strict=True)
    }
    tokens = sum(c.usage.prompt_tokens + c.usage.generated_tokens for c in critiques)
    write_json(texts, {"rows": [to_json(critique) for critique in critiques]})
    done = _keep(file, SplitScores(key, scores, tokens, time.monotonic() - begun))
    return done, {critique.id: critique for critique in critiques}


def _can_be_scored(scorer: Scorer, statement: str, solution: Solution) -> bool:
    try:
        scorer.encoder.encode(statement, solution.steps, where=solution.id)
    except EncodingError:
        return False
    return True


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "schema"}


def model_key(folder: str) -> str:
    """A hash of what decides a published model's scores: weights, tokenizer, encoding."""
    digest = hashlib.sha256()
    for pattern in _CONTENTS:
        for path in sorted(Path(folder).glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    spec = Path(folder) / "prm_spec.json"
    if spec.exists():
        # Aggregate and threshold are written into it after the evaluation.
        chosen = ("aggregate", "threshold", "chosen_on")
        kept = {name: value for name, value in read_json(spec).items() if name not in chosen}
        digest.update(json.dumps(kept, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _key(folder: str, samples: Sequence[ProblemSamples], dtype: str | None) -> str:
    """A hash of the model, of the solutions, and of the number format."""
    digest = hashlib.sha256(f"{model_key(folder)} {dtype}".encode())
    for group in samples:
        for solution in group.solutions:
            digest.update(repr((group.problem.statement, solution.id, solution.steps)).encode())
    return digest.hexdigest()[:16]


def _read(file: Path, key: str) -> SplitScores | None:
    if not file.exists():
        return None
    kept = read_json(file)
    return SplitScores(**kept) if kept["key"] == key else None


def _keep(file: Path, scores: SplitScores) -> SplitScores:
    write_json(file, dataclasses.asdict(scores))
    return scores
