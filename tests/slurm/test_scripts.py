"""The Slurm files: bash reads them, shellcheck finds nothing, and they call what exists."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
JOBS = sorted((CHECKOUT / "slurm").glob("*.sbatch"))
SCRIPTS = [*JOBS, *sorted((CHECKOUT / "slurm").glob("*.sh")), CHECKOUT / ".ci" / "run"]


def name_of(path: Path) -> str:
    return path.name


def late_directives(text: str) -> list[str]:
    """The #SBATCH lines behind the first command. Slurm ignores those and says nothing."""
    is_comment = [line.startswith("#") or not line.strip() for line in text.splitlines()]
    first_command = is_comment.index(False) if False in is_comment else len(is_comment)
    return [
        line for line in text.splitlines()[first_command:] if line.lstrip().startswith("#SBATCH")
    ]


def commands(text: str) -> str:
    """The text without comments."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def modules(text: str) -> list[str]:
    """The modules of ours that a job runs."""
    return re.findall(r"\b(?:data_gen|prm)(?:\.\w+)+", commands(text))


def test_these_are_the_jobs():
    assert [job.stem for job in JOBS] == [
        "label",
        "publish",
        "sample",
        "train_critic",
        "train_prm",
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_bash_can_read_it(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_shellcheck_finds_nothing(script):
    program = shutil.which("shellcheck")
    assert program, "shellcheck is not installed; on Debian: apt-get install shellcheck"
    done = subprocess.run(
        [program, "--external-sources", script.relative_to(CHECKOUT)],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_shellcheck_would_find_something(tmp_path):
    bad = tmp_path / "bad.sh"
    bad.write_text("#!/usr/bin/env bash\nrm $1\n")
    assert subprocess.run(["shellcheck", bad], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("job", JOBS, ids=name_of)
def test_no_directive_stands_behind_the_first_command(job):
    assert late_directives(job.read_text()) == []


def test_a_late_directive_is_seen():
    text = "#!/bin/bash\n#SBATCH --nodes=1\n\nsource env.sh\n#SBATCH --time=1\n"
    assert late_directives(text) == ["#SBATCH --time=1"]


@pytest.mark.parametrize("job", JOBS, ids=name_of)
def test_the_job_is_one_command_with_one_settings_file(job):
    lines = [line for line in commands(job.read_text()).splitlines() if line]
    assert lines[0] == "source slurm/env.sh"
    assert len(lines) == 2
    assert lines[1].count('"$1"') == 1


@pytest.mark.parametrize("job", JOBS, ids=name_of)
def test_the_job_calls_what_exists(job):
    text = commands(job.read_text())
    verbs = re.findall(r"^prm (\w+) ", text, re.MULTILINE)
    assert len(modules(text)) + len(verbs) == 1, f"{job.name} runs not one command of ours"
    for module in modules(text):
        assert importlib.util.find_spec(module), f"{job.name} runs {module}, which does not exist"
    for verb in verbs:
        command = [sys.executable, "-c", "import prm.cli; prm.cli.main()", verb, "--help"]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{job.name} runs `prm {verb}`: {done.stderr}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the settings file is missing"),
        (["no-such.yaml"], "no-such.yaml: no such settings file"),
    ],
)
def test_a_job_without_its_settings_stops_before_it_starts(words, message):
    done = subprocess.run(
        ["bash", "slurm/publish.sbatch", *words],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert message in done.stderr
