"""Model cards, written from measured files only."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from prm.evaluation.evaluate import Evaluation
from prm.scoring.spec import ScorerSpec
from prm.store import read_json

EXAMPLE = """from prm.scoring import Scorer, aggregate

scorer = Scorer.from_pretrained("{folder}")
problem = "Calculate 3 + 9 + 4."
steps = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 17", "Answer: 17"]
scores = scorer.score(problem, steps)            # one score a step
print(scores, aggregate(scores, scorer.spec.aggregate))
"""

_RESULTS = "## Results"


def prm_card(spec: ScorerSpec, run: Path, error: float) -> str:
    """The card of a PRM, before it was evaluated."""
    done = read_json(run / "DONE")
    return "\n".join(
        (
            *_front(spec.base_model, "process-reward-model"),
            f"# Process reward model on {spec.base_model}",
            "",
            "Scores every step of a solution. Made with stepwise-prm.",
            "",
            "```python",
            EXAMPLE.format(folder="THIS FOLDER").rstrip(),
            "```",
            "",
            f"- A score predicts: `{spec.target}`. Early stop in labelling makes the training "
            "targets a little too high; the calibration error below is against unbiased rates.",
            f"- Head: `{spec.head}`; the score is read after each step at {spec.separator!r}.",
            f"- Trained on {done['solutions']} solutions of {done['problems']} problems in "
            f"{done['steps']} steps; {done['tokens']:,} tokens.",
            f"- Not trained on: {_counts(done['skipped'])}.",
            f"- This folder gives the trainer's scores to {error:.1e} in float32.",
            "- Contamination with public benchmarks: not checked.",
            "",
            _RESULTS,
            "",
            "Not measured yet.",
            "",
            _config(run),
        )
    )


def critic_card(run: Path) -> str:
    """The card of a critic."""
    done = read_json(run / "DONE")
    config = read_json(run / "config.json")["config"]
    return "\n".join(
        (
            *_front(config["model"], "critic"),
            f"# Critic on {config['model']}",
            "",
            "Writes a critique of a solution and names its first wrong step. Load it with",
            "`prm.critic.Critic.from_pretrained(THIS FOLDER)`. Made with stepwise-prm.",
            "",
            f"- Trained on {done['rows']} critiques in {done['steps']} steps.",
            f"- Not trained on: {_counts(done['skipped'])}.",
            "",
            _RESULTS,
            "",
            "Not measured yet.",
            "",
            _config(run),
        )
    )


def with_results(spec: ScorerSpec, card: str, evaluation: Evaluation, seed: int) -> str:
    """The card with the measured numbers in the place of the old ones."""
    before, _, rest = card.partition(_RESULTS)
    after = rest[rest.index("<details>") :]
    lines = [
        f"On {evaluation.num_problems} held-out problems, {evaluation.num_samples} samples each; "
        f"aggregate `{spec.aggregate}` and threshold {spec.threshold:.3f} were chosen on the "
        f"`{spec.chosen_on}` split. 95 % intervals by bootstrap over problems.",
        f"The table averages over {len(evaluation.methods_by_seed)} training seed(s); this one's "
        f"{evaluation.chosen}: "
        f"{evaluation.methods_by_seed[str(seed)][evaluation.choice['method']]:.3f}.",
        "",
        "| method | accuracy | interval |",
        "|---|---|---|",
    ]
    for method in evaluation.methods:
        last = method.points[-1]
        lines.append(f"| {method.name} | {last.accuracy:.3f} | {last.low:.3f} to {last.high:.3f} |")
    lines += ["", *_step_table(evaluation)]
    if evaluation.reliability:
        lines += ["", f"Calibration error (ECE): {evaluation.reliability.ece:.3f}."]
    return f"{before}{_RESULTS}\n\n" + "\n".join(lines) + f"\n\n{after}"


def _step_table(evaluation: Evaluation) -> list[str]:
    lines = ["| scorer | problems | step AUC | first-error F1 |", "|---|---|---|---|"]
    for table in evaluation.step_metrics:
        for row in table.rows:
            auc = f"{row.step_auc.value:.3f}" if row.step_auc else "not defined"
            f1 = f"{row.first_error_f1.value:.3f}" if row.first_error_f1 else "not defined"
            lines.append(f"| {row.scorer} | {table.title.lower()} | {auc} | {f1} |")
    return lines


def _front(base: str, tag: str) -> list[str]:
    """The metadata block that model hubs read."""
    return ["---", f"base_model: {base}", "library_name: transformers", f"tags: [{tag}]", "---", ""]


def _counts(skipped: dict[str, Any]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(skipped.items())) or "nothing"


def _config(run: Path) -> str:
    config = json.dumps(read_json(run / "config.json")["config"], indent=2)
    return f"<details><summary>Settings</summary>\n\n```json\n{config}\n```\n</details>\n"


def critic_results(card: str, evaluation: Evaluation) -> str:
    """The critic's card with its measured numbers."""
    if evaluation.critic is None:
        return card
    before, _, rest = card.partition(_RESULTS)
    rate = evaluation.critic.parse_rate
    lines = [
        f"On {evaluation.num_problems} held-out problems: {rate.value:.3f} of the critiques can be "
        f"read ({rate.low:.3f} to {rate.high:.3f}).",
        "",
        *_step_table(evaluation),
    ]
    return f"{before}{_RESULTS}\n\n" + "\n".join(lines) + f"\n\n{rest[rest.index('<details>') :]}"


def apply_choice(spec: ScorerSpec, choice: dict[str, Any], seed: int) -> ScorerSpec:
    """The spec with what was chosen on the selection split, for this training seed."""
    return dataclasses.replace(
        spec,
        aggregate=choice["aggregate"],
        threshold=min(1.0, round(choice["thresholds"][seed], 6)),
        chosen_on=choice["split"],
    )
