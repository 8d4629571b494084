"""Trains one step of a tiny model under `accelerate launch`; each rank writes what it saw.

accelerate launch --config_file F tests/accelerate_probe.py FOLDER
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator


def main(folder: str) -> None:
    accelerator = Accelerator()
    torch.manual_seed(0)
    model = accelerator.prepare(torch.nn.Linear(3, 1, bias=False))
    # Each rank has its own input: its local gradient of the sum is that input.
    inputs = torch.full((1, 3), 1.0 + accelerator.process_index, device=accelerator.device)
    accelerator.backward(model(inputs).sum())
    seen = {
        "rank": accelerator.process_index,
        "world_size": accelerator.num_processes,
        "distributed_type": accelerator.distributed_type.value,
        "mixed_precision": accelerator.mixed_precision,
        "inputs": inputs[0].tolist(),
        "gradient": next(model.parameters()).grad[0].tolist(),
    }
    Path(folder, f"rank-{accelerator.process_index}.json").write_text(json.dumps(seen))
    accelerator.wait_for_everyone()
    # As our trainers do: gloo's threads may abort an interpreter that is shutting down.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
