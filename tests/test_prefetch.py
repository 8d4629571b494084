"""The whole command against a local hub, then everything from the caches without it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_gen import prefetch
from data_gen.hub import Wanted
from data_gen.prefetch import PrefetchConfig, check_space
from data_gen.public_sets import SETS
from prm.config import load
from prm.errors import ConfigError
from prm.records import Problem
from prm.store import read_manifests, read_records
from tests.stub_hub import StubHub

CHECKOUT = Path(__file__).parents[1]
MODEL = "someone/tiny"


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def sums(begin, number):
    """Rows as GSM8K has them."""
    return [
        {"question": f"What is {n} + 1?", "answer": f"It is <<{n}+1={n + 1}>>.\n#### {n + 1}"}
        for n in range(begin, begin + number)
    ]


def gsm8k():
    files = {"main/train.jsonl": lines(sums(0, 20)), "main/test.jsonl": lines(sums(100, 5))}
    card = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train.jsonl}
  - {split: test, path: main/test.jsonl}
dataset_info:
- config_name: main
  features:
  - {name: question, dtype: string}
  - {name: answer, dtype: string}
  splits:
  - {name: train, num_bytes: 1000, num_examples: 20}
  - {name: test, num_bytes: 200, num_examples: 5}
  download_size: 1500
  dataset_size: 1200
---
"""
    return {**files, "README.md": card.encode()}


def hendrycks_math():
    subjects = SETS["math"][0].configs
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {one}\n  data_files:\n  - {{split: train, path: {one}/train.jsonl}}\n"
        for one in subjects
    )
    rows = [
        {
            "problem": f"What is {one}?",
            "level": "Level 1",
            "type": one,
            "solution": rf"It is $\boxed{{\text{{{one}}}}}$.",
        }
        for one in subjects
    ]
    files = {f"{one}/train.jsonl": lines([row]) for one, row in zip(subjects, rows, strict=True)}
    return {**files, "README.md": f"{card}---\n".encode()}


def math_500():
    row = {"problem": "What is $1 - 1$?", "solution": r"\boxed{0}", "answer": "0", "level": 1}
    return {"test.jsonl": lines([{**row, "subject": "Algebra", "unique_id": "test/1"}])}


@pytest.fixture
def hub(tiny_folder):
    """A hub with one model and the public sets."""
    model = {path.name: path.read_bytes() for path in sorted(tiny_folder.iterdir())}
    repos = {
        f"models/{MODEL}": {**model, "model.onnx": b"not wanted", "zz.safetensors": b"x" * 100_000},
        "models/someone/gated": {"config.json": b"{}", "model.safetensors": b"0"},
        "models/someone/pickled": {"config.json": b"{}", "pytorch_model.bin": b"0"},
        "datasets/openai/gsm8k": gsm8k(),
        "datasets/EleutherAI/hendrycks_math": hendrycks_math(),
        "datasets/HuggingFaceH4/MATH-500": math_500(),
    }
    with StubHub(repos, gated=("models/someone/gated",)).running() as running:
        yield running


def environment(home, hub=None):
    """As on a login node, or, without a hub, as on a compute node."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    ways = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"} if hub else {"HF_HUB_OFFLINE": "1"}
    return {**kept, **ways, "HF_HOME": str(home), "PYTHONWARNINGS": "error"}


def command(*words):
    return [sys.executable, *words]


def run(words, env):
    return subprocess.run(
        command(*words), cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=60
    )


def fetch(*words):
    return ("-m", "data_gen.prefetch", *words)


def test_what_was_fetched_loads_by_its_id_without_the_hub(hub, tmp_path):
    home = tmp_path / "home"
    names = fetch("--models", f"[{MODEL}]", "--sources", "[gsm8k, math]")
    first = run(names, environment(home, hub))
    assert first.returncode == 0, first.stderr
    assert "model.onnx" not in hub.fetched
    assert f"model {MODEL}: 207.1 kB to fetch" in first.stdout
    assert "problems openai/gsm8k main: 2.7 kB to fetch" in first.stdout
    assert "problems EleutherAI/hendrycks_math algebra: to fetch, of unknown size" in first.stdout
    assert str(home) in first.stdout

    hub.fetched.clear()
    second = run(names, environment(home, hub))
    assert second.stdout.count(": is here") == 1 + 1 + 7 + 1
    assert not {name for name in hub.fetched if not name.endswith(".md")}

    code = (
        "from transformers import AutoConfig, AutoTokenizer;"
        f"print(AutoConfig.from_pretrained('{MODEL}').num_hidden_layers,"
        f"AutoTokenizer.from_pretrained('{MODEL}')('1 + 1').input_ids)"
    )
    loaded = run(["-c", code], environment(home))
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("2 [")

    output = tmp_path / "problems"
    words = ["-m", "data_gen.problems", "--sources", "[gsm8k, math]", "--output", str(output)]
    made = run(words, environment(home))
    assert made.returncode == 0, made.stderr
    problems = list(read_records(output, Problem))
    assert len(problems) == 20 + 5 + 7 + 1
    assert {p.statement for p in problems if p.split == "test"} == {
        *(row["question"] for row in sums(100, 5)),
        "What is $1 - 1$?",
    }
    assert read_manifests(output)[0]["skipped"] == {}


def test_a_fetch_that_was_killed_goes_on_with_what_is_missing(hub, tmp_path):
    env = environment(tmp_path, hub)
    hub.stalls_at = "zz.safetensors"
    num_others = len(hub.repos[f"models/{MODEL}"]) - 2  # without this one and the .onnx file
    with subprocess.Popen(
        command(*fetch("--models", f"[{MODEL}]")), cwd=CHECKOUT, env=env, stderr=subprocess.DEVNULL
    ) as process:
        assert hub.is_stalling.wait(60)
        while len(list(tmp_path.glob("hub/models--*/snapshots/*/*"))) < num_others:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    hub.stalls_at, hub.fetched = "", []
    done = run(fetch("--models", f"[{MODEL}]"), env)
    assert done.returncode == 0, done.stderr
    assert hub.fetched == ["zz.safetensors"]
    assert "100.0 kB to fetch" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--models", f"[{MODEL}, someone/typo]"), "someone/typo is unknown at"),
        (("--models", "[someone/gated]"), "is gated: accept its terms at"),
        (("--models", "[someone/pickled]"), "no .safetensors files"),
        (("--models", "[a/b/c]"), "a/b/c"),
    ],
)
def test_a_model_that_cannot_be_had_ends_the_command_before_anything_is_fetched(
    hub, tmp_path, words, said
):
    done = run(fetch(*words), environment(tmp_path, hub))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.fetched == []


def test_a_set_that_is_gone_is_named(hub, tmp_path):
    del hub.repos["datasets/HuggingFaceH4/MATH-500"]
    done = run(fetch("--sources", "[math]"), environment(tmp_path, hub))
    assert done.returncode == 1
    assert "problems HuggingFaceH4/MATH-500 is unknown at" in done.stderr


@pytest.mark.parametrize("words", [("--models", f"[{MODEL}]"), ("--sources", "[gsm8k]")])
def test_without_the_hub_the_remedy_is_named(hub, tmp_path, words):
    offline = run(fetch(*words), environment(tmp_path))
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE=1: unset it" in offline.stderr
    away = {**environment(tmp_path, hub), "HF_ENDPOINT": "http://127.0.0.1:9"}
    unreached = run(fetch(*words), away)
    assert unreached.returncode == 1
    assert "http://127.0.0.1:9 is not reached from here" in unreached.stderr
    assert "login node" in unreached.stderr


def test_what_does_not_fit_on_the_disk_is_refused_with_the_sum(tmp_path):
    def never():
        pytest.fail("fetched")

    part = int(0.6 * shutil.disk_usage(tmp_path).free)
    cache = tmp_path / "not" / "yet"
    check_space([Wanted("a", None, cache, never), Wanted("b", 0, cache, never)])
    with pytest.raises(ConfigError, match="b: .* to fetch up to here, but .* HF_HOME"):
        check_space([Wanted("a", part, cache, never), Wanted("b", part, cache, never)])


def test_the_settings_name_something_that_exists():
    with pytest.raises(ConfigError, match="nothing to fetch"):
        PrefetchConfig()
    with pytest.raises(ConfigError, match="aime"):
        PrefetchConfig(sources=["aime"])
    with pytest.raises(SystemExit):
        prefetch.main(["--sources", "[aime]"])
    config = load(PrefetchConfig, CHECKOUT / "configs" / "qwq" / "prefetch.yaml")
    assert config.sources == list(SETS)
