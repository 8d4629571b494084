"""Trains a PRM as the job does; each rank writes what it saw.

accelerate launch --config_file A tests/train_prm_probe.py FOLDER --config F
"""

import hashlib
import json
import sys
from pathlib import Path

from prm.scoring.prefix_tree import PADDING
from prm.training import train_prm


def digest(tensors):
    """A hash of the tensors' bytes."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


class Watched(train_prm.PRMTrainer):
    """The trainer; it notes what each step was given and what gradients came of it."""

    def training_step(self, model, inputs, *args, **kwargs):
        loss = super().training_step(model, inputs, *args, **kwargs)
        learnt = [p for p in self.scoring.parameters() if p.requires_grad]
        self.problems.append(digest([inputs["ids_BU"]]))
        self.tokens.append(int((inputs["node_of_BU"] > PADDING).sum()))
        self.gradients.append(digest([p.grad for p in learnt]))
        return loss

    def train(self, *args, **kwargs):
        self.problems, self.tokens, self.gradients = [], [], []
        result = super().train(*args, **kwargs)
        seen = {
            "rank": self.args.process_index,
            "world_size": self.args.world_size,
            "problems": self.problems,
            "tokens": self.tokens,
            "gradients": self.gradients,
            "weights": digest([p for p in self.scoring.parameters() if p.requires_grad]),
        }
        path = Path(FOLDER, f"rank-{self.args.process_index}.json")
        path.write_text(json.dumps(seen))
        return result


if __name__ == "__main__":
    FOLDER = sys.argv.pop(1)
    train_prm.PRMTrainer = Watched
    train_prm.main()
