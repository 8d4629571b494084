"""Search at inference, over the `Generator` and `StepScorer` protocols. Standard library only."""

from prm.search.best_of_n import (
    Candidate,
    SearchResult,
    best_of_n,
    choose_best,
    sample_candidates,
    score_candidates,
    select_best,
)
from prm.search.voting import choose_by_vote, majority_vote, vote, weighted_vote

__all__ = [
    "Candidate",
    "SearchResult",
    "best_of_n",
    "choose_best",
    "choose_by_vote",
    "majority_vote",
    "sample_candidates",
    "score_candidates",
    "select_best",
    "vote",
    "weighted_vote",
]
