import dataclasses
import json

import pytest

from prm import config
from prm.config import fingerprint, load, operational, parse, resolved
from prm.errors import ConfigError
from prm.libraries import load_tokenizer


@dataclasses.dataclass(frozen=True)
class Part:
    """Settings of a part."""

    temperature: float = 0.8
    """0 = greedy."""
    device: str | None = operational(None)
    """cpu or cuda."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a job."""

    name: str
    """What the job is called."""
    lr: float = 1e-3
    """Step size of the optimizer."""
    steps: int = 10
    """How many."""
    part: Part = dataclasses.field(default_factory=Part)
    """How to sample."""
    stop: tuple[str, ...] = ()
    """Strings that end a text."""
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many of each."""
    output: str = operational("runs")
    """Where the output goes."""
    folders: list[str] = operational(list)
    """Where the input lies."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}, should be at least 1")


def read(tmp_path, text, *overrides):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return load(Settings, path, overrides)


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", 1e-5), ("1", 1.0), ("0.5", 0.5), ("5E-4", 5e-4), ("2.e-3", 2e-3)]
)
def test_a_number_is_a_float_however_it_is_written(text, value, tmp_path):
    found = read(tmp_path, f"name: a\nlr: {text}\n").lr
    assert (type(found), found) == (float, value)
    found = read(tmp_path, "name: a\n", "--lr", text).lr
    assert (type(found), found) == (float, value)


@pytest.mark.parametrize("text", ["no", "yes", "true", "12", "1e-5", "null", "[a]"])
def test_what_is_no_string_is_refused_for_a_string(text, tmp_path):
    with pytest.raises(ConfigError, match="name"):
        read(tmp_path, f"name: {text}\n")
    assert read(tmp_path, f"name: '{text}'\n").name == text


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("name: a\nlerning_rate: 1\n", "lerning_rate"),
        ("name: a\npart: {temprature: 1}\n", "temprature"),
        ("lr: 1\n", "name"),
        ("name: a\nlr: fast\n", "lr"),
        ("name: a\nsteps: 1.5\n", "steps"),
        ("name: a\nsteps: true\n", "steps"),
        ("name: a\nstop: stop\n", "stop"),
        ("name: a\nsizes: {train: many}\n", "sizes"),
        ("name: a\npart: 3\n", "part should hold settings of its own, found 3"),
        ("name: a\npart: null\n", "part should hold settings of its own, found None"),
        ("name: a\npart: embedded\n", "part"),
        ("name: a\nsteps: 0\n", "steps is 0, should be at least 1"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_the_key(text, key, tmp_path):
    with pytest.raises(ConfigError, match=rf"settings\.yaml: [^\0]*{key}"):
        read(tmp_path, text)


def test_an_absent_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such settings file"):
        load(Settings, tmp_path / "none.yaml")


def test_an_override_reaches_into_a_part_and_wins_over_the_file(tmp_path):
    text = "name: a\npart: {temperature: 0.5, device: cpu}\nsizes: {train: 3}\n"
    config = read(tmp_path, text, "--part.temperature", "0", "--sizes", '{"test": 4}')
    assert config == Settings("a", part=Part(0.0, "cpu"), sizes={"test": 4})


def test_a_wrong_override_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="temprature"):
        read(tmp_path, "name: a\n", "--part.temprature", "0")


def test_resolved_settings_are_plain_values_that_load_again(tmp_path):
    config = Settings("a", stop=("\n\n",), part=Part(0.1), sizes={"train": 2})
    again = read(tmp_path, json.dumps(resolved(config)))
    assert again == config


@pytest.mark.parametrize(
    "changes", [{"output": "other"}, {"folders": ["a"]}, {"part": Part(device="cuda")}]
)
def test_where_a_job_runs_does_not_change_the_fingerprint(changes):
    assert fingerprint(Settings("a", **changes)) == fingerprint(Settings("a"))


@pytest.mark.parametrize(
    "changes",
    [{"name": "b"}, {"lr": 1e-4}, {"part": Part(0.7)}, {"stop": ("x",)}, {"sizes": {"train": 1}}],
)
def test_what_changes_the_result_changes_the_fingerprint(changes):
    assert fingerprint(Settings(**{"name": "a", **changes})) != fingerprint(Settings("a"))


def test_the_fingerprint_does_not_depend_on_how_the_settings_were_given(tmp_path):
    text = "name: a\nlr: 1e-3\npart: {temperature: 0.8}\nstop: ['x']\n"
    assert fingerprint(read(tmp_path, text)) == fingerprint(Settings("a", stop=("x",)))
    given = read(tmp_path, "name: a\n", "--lr", "1", "--stop", '["x"]')
    assert fingerprint(given) == fingerprint(Settings("a", lr=1.0, stop=("x",)))


def test_help_explains_every_field(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(Settings, "python -m job", "What the job does.", ["--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "python -m job" in shown
    assert "What the job does." in shown
    for doc in (
        "What the job is called.",
        "Step size of the optimizer.",
        "How many.",
        "How to sample.",
        "0 = greedy.",
        "cpu or cuda.",
        "Strings that end a text.",
        "How many of each.",
        "Where the output goes.",
        "Where the input lies.",
    ):
        # The doc of a part is the title of its own settings, without the full stop.
        assert doc.rstrip(".") in shown
    for name in ("--name", "--lr", "--part.temperature", "--part.device", "--folders"):
        assert name in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lr", "fast"], "lr"),
        (["--name", "a", "--nmae", "b"], "nmae"),
        (["--name", "a", "--steps", "0"], "steps is 0"),
        ([], "name"),
        (["--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_a_wrong_command_line_ends_with_code_2_and_a_message(argv, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(Settings, "python -m job", None, argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("python -m job: wrong settings: ")
    assert "try: python -m job --help" in error


def test_a_right_command_line_gives_the_settings(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("lr: 1e-4\n")
    config = parse(Settings, "job", None, ["--config", str(path), "--name", "a", "--steps", "3"])
    assert config == Settings("a", lr=1e-4, steps=3)


def test_ctrl_c_ends_a_job_without_a_traceback(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        config.run(interrupted, "python -m data_gen.sample")
    assert stopped.value.code == 130
    assert "python -m data_gen.sample: stopped; the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/no/such/folder", "no-such-model"])
def test_a_model_that_is_not_there_is_named(path):
    with pytest.raises(ConfigError, match=f"model '{path}' cannot be loaded"):
        load_tokenizer(path)
