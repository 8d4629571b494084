"""Score the steps of a solution: `Scorer`, and `aggregate` for a score of the whole.

Needs torch, transformers and safetensors; nothing of training is imported.
"""

from prm.aggregate import aggregate
from prm.scoring.scorer import Scorer
from prm.scoring.spec import ScorerSpec

__all__ = ["Scorer", "ScorerSpec", "aggregate"]
