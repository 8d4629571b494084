"""A model folder of a few kilobytes and records to go with it: offline, the same on every machine.

The tokenizer gives one token a character, and one each for the critic's verdict words. The model
is a two-layer Llama with random weights. Nothing here is a stand-in for our own code: the folder
is read by the same functions that read a real one.

    folder = tiny_model_folder(tmp_path / "model")
    generator = TransformersGenerator.from_pretrained(str(folder), device="cpu", dtype="float32")
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from prm.records import LabelledSolution, Problem, Solution, StepLabel, Verdict
from prm.scoring.model import StepHead, save_head
from prm.scoring.spec import ScorerSpec

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
VERDICT_WORDS = (" correct", " wrong")


def tiny_tokenizer(words: tuple[str, ...] = VERDICT_WORDS) -> PreTrainedTokenizerFast:
    """One token for each of ``words``, else one a printable ASCII character or newline.

    It adds no special token by itself, and decodes to the same text.
    """
    characters = string.digits + string.ascii_letters + string.punctuation + " \n\t"
    vocabulary = {text: i for i, text in enumerate([PAD, BOS, EOS, UNKNOWN, *characters, *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    pattern = Regex("|".join([*words, r"\s|\S"]))
    inner.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def tiny_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    """Two layers, width 32, float32, random weights from ``seed``; 1,024 positions."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        # Large enough that the model has preferences: it can learn, and its argmax is no tie.
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def tiny_model_folder(path: str | Path, seed: int = 0) -> Path:
    """Save the tiny model and its tokenizer under ``path``, as `from_pretrained` wants them."""
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer, seed).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return Path(path)


def tiny_head(hidden_size: int = 32, *, likelihood: bool = True, seed: int = 1) -> StepHead:
    """A step head with random weights, whose scores of the tiny model are not saturated.

    A character's log-likelihood under the tiny model is about -5, a step's -5 to -100.
    """
    head = StepHead(hidden_size, likelihood=likelihood)
    with torch.no_grad():
        head.linear.weight.normal_(std=0.15, generator=torch.Generator().manual_seed(seed))
        head.linear.bias.fill_(1.5 if likelihood else 0.3)
        if head.likelihood is not None:
            head.likelihood.copy_(torch.tensor([0.011, 0.023]))
    return head


def tiny_scorer_folder(path: str | Path, seed: int = 1, **spec: Any) -> Path:
    """What a published PRM's folder holds: the tiny model, a head from ``seed``, and a spec."""
    folder = tiny_model_folder(path)
    save_head(tiny_head(seed=seed), folder)
    ScorerSpec(base_model="tiny", **spec).save(folder)
    return folder


def tiny_problem(number: int = 0, numbers: tuple[int, ...] = (3, 9, 4)) -> Problem:
    """Calculate 3 + 9 + 4."""
    return Problem(
        id=f"tiny/{number:04d}",
        statement=f"Calculate {' + '.join(map(str, numbers))}.",
        reference_answer=str(sum(numbers)),
        verifier="math",
        source="tiny",
        split="train",
    )


def tiny_solution(problem: Problem, steps: list[str], sample: int = 0) -> Solution:
    """The steps as a solution of the problem; the answer is what the last step says."""
    return Solution(
        id=f"{problem.id}#{sample}",
        problem_id=problem.id,
        steps=tuple(steps),
        final_answer=steps[-1].removeprefix("Answer: ") if steps else None,
        finish_reason="stop",
        strategy="plain",
        model="tiny",
    )


def tiny_labelled(
    problem: Problem, steps: list[str], first_error: int | None, sample: int = 0
) -> LabelledSolution:
    """The solution with hard labels: right before ``first_error``, wrong there, then unknown."""
    solution = tiny_solution(problem, steps, sample)
    hard = [
        None if first_error is not None and t > first_error else t != first_error
        for t in range(len(steps))
    ]
    return LabelledSolution(
        solution=solution,
        labels=tuple(
            StepLabel(t, successes=0, trials=0, success_rate=None, prefix_correct=None, hard=h)
            for t, h in enumerate(hard)
        ),
        first_error={"none" if first_error is None else str(first_error): 1.0},
        verdict=Verdict(
            "right" if solution.final_answer == problem.reference_answer else "wrong", "tiny"
        ),
        labeler="tiny",
        stop_reason="known",
    )
