"""Every file of configs/accelerate is one that accelerate takes; two are launched for real.

An exit code of 0 says little here: with the wrong flags accelerate starts processes that do not
know of each other. So the launched script reports its world size and its gradient.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

CHECKOUT = Path(__file__).parents[1]
FOLDER = CHECKOUT / "configs" / "accelerate"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def launched(file: str, folder: Path, **environment: str) -> list[dict]:
    """What each rank of the probe wrote, by rank."""
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(FOLDER / file), "--main_process_port", "0"),
        *(str(CHECKOUT / "tests" / "accelerate_probe.py"), str(folder)),
    ]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]


def test_the_folder_holds_these_files():
    assert FILES == [
        "ddp.yaml", "ddp_cpu.yaml", "deepspeed_zero2.yaml", "fsdp2.yaml", "single.yaml",
    ]  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_accelerate_knows_every_key(file):
    config = load_config_from_file(str(FOLDER / file))
    assert config.num_processes >= 1
    known = {action.dest for action in launch_command_parser()._actions}
    nested = (config.fsdp_config or {}) | (config.deepspeed_config or {})
    assert set(nested) <= known


@pytest.mark.parametrize(
    ("file", "chosen"),
    [
        ("single.yaml", set()),
        ("ddp.yaml", {"multi_gpu"}),
        ("ddp_cpu.yaml", {"multi_gpu"}),
        ("fsdp2.yaml", {"use_fsdp"}),
        ("deepspeed_zero2.yaml", {"use_deepspeed"}),
    ],
)
def test_the_launcher_chooses_what_the_file_says(file, chosen):
    words = ["--config_file", str(FOLDER / file), "--num_processes", "16", "--num_machines", "2"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args([*words, "job.py"]))
    launchers = ("multi_gpu", "use_fsdp", "use_deepspeed", "tpu", "use_cpu")
    assert {name for name in launchers if getattr(args, name)} == chosen
    assert (args.num_processes, args.num_machines) == (16, 2)


def test_fsdp2_is_version_2_and_saves_shards():
    config = load_config_from_file(str(FOLDER / "fsdp2.yaml")).fsdp_config
    assert config["fsdp_version"] == 2
    assert config["fsdp_state_dict_type"] == "SHARDED_STATE_DICT"


def test_single_is_one_process(tmp_path):
    (seen,) = launched("single.yaml", tmp_path)
    assert seen["world_size"] == 1
    assert seen["distributed_type"] == "NO"
    assert seen["gradient"] == seen["inputs"] == [1.0, 1.0, 1.0]


def test_ddp_cpu_is_two_ranks_that_share_gradients(tmp_path):
    first, second = launched("ddp_cpu.yaml", tmp_path, ACCELERATE_USE_CPU="true")
    assert first["world_size"] == second["world_size"] == 2
    assert (first["rank"], second["rank"]) == (0, 1)
    assert first["inputs"] != second["inputs"]
    # DDP averages: (1 + 2) / 2 on both ranks, whatever each rank's own gradient was.
    assert first["gradient"] == second["gradient"] == [1.5, 1.5, 1.5]
