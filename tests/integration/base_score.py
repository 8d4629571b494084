"""Scores two steps with a published folder; needs the base installation only.

python base_score.py FOLDER
"""

import json
import sys

from prm.scoring import Scorer

scores = Scorer.from_pretrained(sys.argv[1]).score(
    "Calculate 1 + 2.", ["Step 1: 1 + 2 = 3", "Answer: 3"]
)
sys.stdout.write(json.dumps(scores) + "\n")
