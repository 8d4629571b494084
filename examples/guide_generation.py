"""Guide a generator with a scorer, by best-of-8.

    python examples/guide_generation.py runs/quickstart/published/prm "Calculate 7 + 6 + 11."

The generator here is the embedded model; any object with `generate` (see `prm.protocols.Generator`)
and any object with `score_many` will do.
"""

import sys

from data_gen.prompting import load_strategy
from prm.generation.embedded import embedded_model
from prm.generation.in_process import TransformersGenerator
from prm.protocols import SamplingParams
from prm.scoring import Scorer
from prm.search import best_of_n
from prm.steps import split_steps
from prm.verifiers import extract_answer

folder, problem = sys.argv[1:3]
scorer = Scorer.from_pretrained(folder)
strategy = load_strategy("few_shot_arithmetic")


def parse(text: str) -> tuple[list[str], str | None]:
    """A generated text as its steps and its final answer."""
    steps = split_steps(text.strip("\n"))
    return steps, extract_answer(steps, r"^Answer: (.+)$")


result = best_of_n(
    problem,
    TransformersGenerator.from_pretrained(str(embedded_model())),
    scorer,
    n=8,
    aggregate=scorer.spec.aggregate,
    params=SamplingParams(temperature=0.8, max_tokens=64, stop=("\n\n",)),
    prompt=strategy.render,
    parse=parse,
)
for i, candidate in enumerate(result.candidates):
    mark = "->" if i == result.chosen else "  "
    score = "no answer" if candidate.score is None else f"{candidate.score:.3f}"
    print(mark, score, " | ".join(candidate.steps))
print("answer:", result.answer)
