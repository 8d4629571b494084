"""Score two solutions: python examples/score_steps.py runs/quickstart/published/prm."""

import sys

from prm.scoring import Scorer, aggregate

scorer = Scorer.from_pretrained(sys.argv[1])
problem = "Calculate 3 + 9 + 4."
good = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 16", "Answer: 16"]
bad = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 17", "Answer: 17"]
for steps, scores in zip((good, bad), scorer.score_many(problem, [good, bad]), strict=True):
    total = aggregate(scores, scorer.spec.aggregate)
    print(
        f"{total:.3f}",
        [f"{step}  ({score:.2f})" for step, score in zip(steps, scores, strict=True)],
    )
