"""The critic: a language model that checks a solution step by step and names the first wrong one.

from prm.critic import Critic
critic = Critic.from_pretrained("runs/critic")
critique = critic.critique("Calculate 3 + 9 + 4.", ["Step 1: 3 + 9 = 13", "Answer: 13"])
critique.first_error            # 0: the first step is wrong
"""

from prm.critic.critic import Critic, solution_score, step_scores
from prm.critic.dialect import Dialect
from prm.critic.parse import ParsedCritique, parse, render

__all__ = [
    "Critic",
    "Dialect",
    "ParsedCritique",
    "parse",
    "render",
    "solution_score",
    "step_scores",
]
