"""The real policy: SmolLM2 after a few minutes with right chains of sums.

As it comes, the embedded model copies the numbers of longer sums wrongly: shown examples of five
to seven numbers it solves 4%, two thirds of its errors are in the first step, and a labeler that
always says "the first step" looks good. After 160 right chains it solves more than half and errs
anywhere. Nothing but right chains is shown to it: its errors and recoveries are its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.labelling.chains import CHAINS, right_chain
from benchmarks.table import say
from data_gen.arithmetic import make_problems
from prm.generation.embedded import resolve_model
from prm.libraries import load_tokenizer, quieten_libraries
from prm.records import Problem

NUM_STEPS = 20
BATCH = 8
LEARNING_RATE = 5e-4
WARMUP_STEPS = 5
SEED = 17


def warmed_up(folder: Path) -> Path:
    """The folder of the policy, made on first use (about two minutes on one core)."""
    if not folder.exists():
        quieten_libraries()
        unfinished = folder.with_name(folder.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        _warm_up(unfinished)
        unfinished.rename(folder)
    return folder


def _warm_up(folder: Path) -> None:
    base = resolve_model("embedded")
    tokenizer = load_tokenizer(base)
    torch.manual_seed(SEED)
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16),
        LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.data = weight.data.float()
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    for step, problems in enumerate(_batches(), 1):
        loss = model(**_tensors(tokenizer, problems)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, step / WARMUP_STEPS)
        optimizer.step()
        optimizer.zero_grad()
        say(f"policy: step {step} of {NUM_STEPS}, loss {loss.item():.3f}")
    model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _batches() -> Iterator[list[Problem]]:
    """Chains that the pool's problems are not: of the same kind, but of another seed."""
    problems = list(make_problems({"train": NUM_STEPS * BATCH}, seed=SEED, **CHAINS))
    for begin in range(0, len(problems), BATCH):
        yield problems[begin : begin + BATCH]


def _tensors(tokenizer: Any, problems: Sequence[Problem]) -> dict[str, Tensor]:
    """Token ids, mask and labels, [B, T]; only the chain is learned, not the problem."""
    rows = []
    for problem in problems:
        asked = tokenizer(f"Problem: {problem.statement}\n")["input_ids"]
        chain = tokenizer(right_chain(problem) + "\n\n", add_special_tokens=False)["input_ids"]
        rows.append((asked, chain))
    width = max(len(asked) + len(chain) for asked, chain in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (asked, chain) in enumerate(rows):
        end = len(asked) + len(chain)
        ids[i, :end] = torch.tensor(asked + chain)
        mask[i, :end] = 1
        labels[i, len(asked) : end] = torch.tensor(chain)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
