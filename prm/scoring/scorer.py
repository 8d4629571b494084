"""The scorer: a PRM for use in other people's loops.

from prm.scoring import Scorer

scorer = Scorer.from_pretrained("runs/quickstart/published/prm")
scorer.score("Calculate 3 + 9 + 4.", ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 17"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from prm.device import choose_device, choose_dtype
from prm.errors import SpecError
from prm.scoring.encoding import Encoder
from prm.scoring.model import StepScoringModel, load_backbone, load_head
from prm.scoring.prefix_tree import PrefixTree, collate, pack
from prm.scoring.spec import ScorerSpec, load_spec

# Rows this long keep the quadratic part of the attention small beside the linear layers.
_ROW_TOKENS = 256
_BATCH_TOKENS = 4096


class Scorer:
    """Gives every step of a solution a score in [0, 1]: what it means stands in ``spec.target``.

    Scores do not depend on what else is scored in the same call, on its order, or on padding.
    """

    def __init__(self, model: StepScoringModel, tokenizer: Any, spec: ScorerSpec) -> None:
        """Use `from_pretrained`; this is for models at hand (trainer, tests)."""
        self.model = model.eval()
        self.spec = spec
        self.encoder = Encoder(tokenizer, spec)
        self.num_tokens = 0
        """Tokens encoded so far, each shared prefix once."""

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        spec: str | Path | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> Scorer:
        """Load a published folder (safetensors only; no code from the folder is run).

        Args:
            path: the folder.
            spec: a spec file to use instead of the folder's own.
            device: "cpu", "cuda"; by default the GPU where there is one.
            dtype: "float32" for scores that equal the trainer's to 1e-5; by default float32 on a
                CPU and bfloat16 on a GPU.

        Raises:
            SpecError: no spec, a foreign one, or weights that do not fit it.
        """
        folder = Path(path)
        described = load_spec(spec or folder)
        if not (folder / "config.json").is_file():
            raise SpecError(f"{folder}: no model here (config.json is missing)")
        where = choose_device(device)
        number = choose_dtype(dtype or ("float32" if where.type == "cpu" else None), where)
        backbone = load_backbone(
            str(folder), number, where, use_safetensors=True, trust_remote_code=False
        )
        model = StepScoringModel(backbone, described)
        load_head(model.head, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return cls(model.to(where), tokenizer, described)

    def score(self, problem: str, steps: Sequence[str]) -> list[float]:
        """One score a step, in step order.

        Raises:
            EncodingError: no steps, an empty one, or one that contains the separator.
            TooLongError: more tokens than the scorer takes.
        """
        return self.score_many(problem, [steps])[0]

    def score_many(self, problem: str, solutions: Sequence[Sequence[str]]) -> list[list[float]]:
        """Scores of many solutions of one problem; what they share is encoded once."""
        return self.score_problems([(problem, solutions)])[0]

    def score_batch(self, items: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
        """Scores of (problem, steps) pairs, in order; solutions of one problem share prefixes."""
        by_problem: dict[str, list[int]] = {}
        for index, (problem, _) in enumerate(items):
            by_problem.setdefault(problem, []).append(index)
        grouped = [(p, [items[i][1] for i in indices]) for p, indices in by_problem.items()]
        results: list[list[float]] = [[] for _ in items]
        for indices, scores in zip(by_problem.values(), self.score_problems(grouped), strict=True):
            for index, one in zip(indices, scores, strict=True):
                results[index] = one
        return results

    @torch.inference_mode()
    def score_problems(
        self, problems: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> list[list[list[float]]]:
        """Scores of many solutions of many problems: [problem][solution][step]."""
        trees = [self._tree(problem, solutions) for problem, solutions in problems]
        filled = [i for i, tree in enumerate(trees) if tree is not None]
        # Rows of like length together: less padding.
        filled.sort(key=lambda i: len(trees[i] or ()))
        rows = pack([tree for i in filled if (tree := trees[i]) is not None], _ROW_TOKENS)
        scores = (path for batch in _batches(rows) for path in self._score_rows(batch))
        results: list[list[list[float]]] = [[] for _ in problems]
        for index in filled:
            results[index] = [next(scores) for _ in problems[index][1]]
        return results

    def _tree(self, problem: str, solutions: Sequence[Sequence[str]]) -> PrefixTree | None:
        encoded = [
            self.encoder.encode(problem, steps, where=f"solution {k} of {problem!r:.60}")
            for k, steps in enumerate(solutions)
        ]
        return PrefixTree.of(encoded) if encoded else None

    def _score_rows(self, rows: list[PrefixTree]) -> list[list[float]]:
        """The scores of all solutions in the rows, in order."""
        self.num_tokens += sum(map(len, rows))
        device = next(self.model.parameters()).device
        output = self.model(collate(rows).to(device))
        scores = torch.sigmoid(output.logits_BN).tolist()
        return [
            [scores[i][node] for node in path] for i, row in enumerate(rows) for path in row.paths
        ]


def _batches(rows: list[PrefixTree]) -> list[list[PrefixTree]]:
    """Rows in batches of about ``_BATCH_TOKENS`` tokens, padding included."""
    batches: list[list[PrefixTree]] = []
    for row in rows:
        wide = max(len(row), *(len(r) for r in batches[-1])) if batches else 0
        if batches and wide * (len(batches[-1]) + 1) <= _BATCH_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
