"""Agreement with the `correct` flags of published solutions; docs/verifiers_math.md has each case.

`python -m tests.test_math_real DIR` prints every disagreement.
"""

import gzip
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from prm.errors import RecordError
from prm.verifiers import extract_answer, extract_final_answer
from prm.verifiers.math import MathVerifier, check_math_many

FLAGGED = {
    # (verdict, flag): how many
    "gsm8k_openai": {
        ("right", True): 1045,
        ("wrong", False): 1583,
        ("could_not_tell", False): 4,
    },
    "gsm8k_models": {
        ("right", True): 3889,
        ("right", False): 8,
        ("wrong", False): 1161,
        ("wrong", True): 3,
        ("could_not_tell", True): 126,
        ("could_not_tell", False): 77,
    },
    "math_qwen8": {("right", True): 370, ("right", False): 1, ("wrong", False): 37},
    "math500_qwen3_8b": {
        ("right", True): 567,
        ("right", False): 2,
        ("wrong", False): 56,
        ("could_not_tell", False): 61,
    },
}


def candidates(folder, name):
    """(id, model, answer, reference, flag) of each published solution."""
    path = next((folder / "multi_sample" / name).glob("*.jsonl*"))
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            for one in row["candidates"]:
                if name == "gsm8k_openai":
                    answer = extract_answer(one["text"].strip().split("\n"), r"^A: (.+)$")
                else:
                    answer = extract_final_answer(one["text"])
                yield row["id"], one["model"], answer, row["answer"], one["correct"]


def judged(folder, name):
    rows = list(candidates(folder, name))
    return rows, check_math_many([(row[2], row[3]) for row in rows])


@pytest.mark.real
@pytest.mark.parametrize("name", FLAGGED)
def test_published_solutions_are_judged_as_documented(data_dir, name):
    rows, verdicts = judged(data_dir, name)
    found = Counter((verdict.status, row[4]) for row, verdict in zip(rows, verdicts, strict=True))
    assert found == FLAGGED[name]


@pytest.mark.real
def test_the_references_of_math_can_be_read(data_dir):
    problems = data_dir / "problems"
    with gzip.open(problems / "math_train_answers" / "math_train_answers.jsonl.gz", "rt") as file:
        references = [json.loads(line)["answer"] for line in file]
    with (problems / "math500" / "math500.jsonl").open(encoding="utf-8") as file:
        references += [json.loads(line)["answer"] for line in file]
    verifier, refused = MathVerifier(), []
    for reference in references:
        try:
            verifier.check_reference(reference)
        except RecordError:
            refused.append(reference)
    assert refused == ["", ""]


def main(folder):
    console = Console(soft_wrap=True, markup=False, highlight=False)
    for name in FLAGGED:
        rows, verdicts = judged(Path(folder), name)
        disagreements = Counter(
            (verdict.status, verdict.reason, row[4], row[2], row[3], row[0], row[1])
            for row, verdict in zip(rows, verdicts, strict=True)
            if verdict.label is not row[4]
            and not (verdict.reason == "no_answer" and row[4] is False)
        )
        console.print(name, len(rows), "solutions")
        for (status, reason, flag, *rest), number in disagreements.items():
            console.print(f"  {number} x {status} {reason} (flag {flag}):", *map(repr, rest))


if __name__ == "__main__":
    main(sys.argv[1])
