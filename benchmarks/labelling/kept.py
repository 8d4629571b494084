"""Finished comparisons as files, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.labelling.comparison import Comparison
from prm.records import build

CODE = {
    "benchmarks/labelling": ("baselines", "cells", "comparison", "outcomes", "serving", "worlds"),
    "data_gen/labelers": (
        *("bayes*", "math_shepherd", "omega", "prefix", "probes", "reading", "tally", "verdicts"),
    ),
}
"""What a comparison is made by."""


class Kept:
    """Finished cells as files, good for one world, one seed and one state of the code."""

    def __init__(self, folder: Path, world: str, seed: int) -> None:
        """Make the folder."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._made_by = {"world": world, "seed": seed, "code": code_hash(world)}

    def load(self, name: str) -> Comparison | None:
        """The cell, or None where it is not there or was made by something else."""
        path = self._path(name)
        if not path.exists():
            return None
        row: dict[str, Any] = json.loads(path.read_text())
        if row["made_by"] != self._made_by:
            return None
        comparison: Comparison = build(Comparison, row["comparison"], str(path))
        return comparison

    def save(self, comparison: Comparison) -> None:
        """Write it whole or not at all."""
        path = self._path(comparison.name)
        half = path.with_suffix(".half")
        half.write_text(json.dumps({"made_by": self._made_by, "comparison": asdict(comparison)}))
        half.replace(path)

    def _path(self, name: str) -> Path:
        slug = re.sub(r"[^a-z0-9.]+", "_", name.lower())[:60]
        return self.folder / f"{slug}_{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"


def code_hash(world: str) -> str:
    """Of the labelers, of this benchmark and of the world: what is changed is measured anew."""
    root = Path(__file__).parents[2]
    files = [
        path
        for folder, names in CODE.items()
        for name in names
        for path in sorted((root / folder).glob(f"{name}.py"))
    ]
    spec = importlib.util.find_spec(world.partition(":")[0])
    if spec is not None and spec.origin is not None:
        files.append(Path(spec.origin))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]
