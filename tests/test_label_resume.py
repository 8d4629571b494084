"""Rollouts are kept: killed at any moment, the job goes on, and nothing is paid for twice."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from data_gen.label_config import LabelConfig
from data_gen.rollout_store import RolloutStore
from prm.errors import ConfigError, StoreError
from prm.store import Shard, read_manifests
from tests.label_setup import (
    TOKENS,
    Scripted,
    data,
    instead_of_models,
    rows,
    run_job,
    stores,
    words,
)
from tests.sample_setup import CHECKOUT
from tests.tiny import tiny_scorer_folder

CHILD = "import sys; from tests.label_setup import main_of_a_child as m; m(*sys.argv[1:])"


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return stores(tmp_path_factory.mktemp("given"), 10)


def child(given, output, log, deadly=0, pause=0.0):
    command = [sys.executable, "-c", CHILD, str(log), str(deadly), str(pause)]
    # One row a generator call at least: max_rows 1 leaves the chunks to the job.
    command += words(given, output, completer={"max_rows": 1})
    return subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait(process, code):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors


def calls(log):
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """What an undisturbed run writes, and its calls of the model."""
    folder = tmp_path_factory.mktemp("whole")
    wait(child(given, folder / "labels", folder / "log"), 0)
    return folder / "labels", calls(folder / "log")


def test_a_job_that_dies_in_a_call_of_the_model_goes_on_to_the_same_labels(given, whole, tmp_path):
    log, output = tmp_path / "log", tmp_path / "labels"
    deaths = random.Random(7).sample(range(2, len(whole[1]) // 2), 2)
    for deadly in deaths:
        wait(child(given, output, log, deadly), -signal.SIGKILL)
    wait(child(given, output, log), 0)
    assert data(output) == data(whole[0])
    # The calls that it died in are made once more, from the same seeds; no other is.
    made = calls(log)
    assert sorted(set(made), key=made.index) == whole[1]
    assert len(made) == len(whole[1]) + len(deaths)
    kept, was = read_manifests(output)[0]["ledger"], read_manifests(whole[0])[0]["ledger"]
    assert {**kept, "seconds": 0} == {**was, "seconds": 0}


def test_a_job_that_is_killed_from_outside_goes_on_to_the_same_labels(given, whole, tmp_path):
    log, output, source = tmp_path / "log", tmp_path / "labels", random.Random(3)
    for share in (0.2, 0.6):
        process = child(given, output, log, pause=0.02)
        while len(calls(log)) < share * len(whole[1]) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(source.uniform(0, 0.02))
        process.kill()
        wait(process, -signal.SIGKILL)
    wait(child(given, output, log), 0)
    assert data(output) == data(whole[0])
    assert len(calls(log)) <= len(whole[1]) + 2
    assert list(dict.fromkeys(calls(log))) == whole[1]


def test_a_second_start_and_a_deleted_output_ask_for_nothing(given, tmp_path):
    first = run_job(given, tmp_path / "labels")
    assert first.calls
    assert run_job(given, tmp_path / "labels").calls == []
    before = data(tmp_path / "labels")
    for path in (tmp_path / "labels").iterdir():
        path.unlink()
    assert run_job(given, tmp_path / "labels").calls == []
    assert data(tmp_path / "labels") == before


def test_another_method_uses_what_is_there_and_asks_for_the_rest(given, tmp_path, capsys):
    kept = str(tmp_path / "kept")
    full = {"num_rollouts": 4, "early_stop": False, "reuse_siblings": False}
    first = run_job(given, tmp_path / "a", rollouts=kept, math_shepherd=full)
    omega = {"num_rollouts": 4, "early_stop": False}
    alone = run_job(given, tmp_path / "alone", method="omega", omega=omega)
    capsys.readouterr()
    again = run_job(given, tmp_path / "b", rollouts=kept, method="omega", omega=omega)
    assert 0 < texts(again) < texts(alone)
    assert "rollouts had been paid for before" in capsys.readouterr().out
    assert not {seed for seed, _ in again.calls} & {seed for seed, _ in first.calls}
    assert {row.labeler for row in rows(tmp_path / "b")} == {"omega"}
    [manifest] = read_manifests(tmp_path / "b")
    # What the first method paid is not the second one's cost.
    assert manifest["ledger"]["generated_tokens"] == TOKENS * texts(again)


def texts(generator):
    return sum(count for _, count in generator.calls)


def test_the_same_method_with_more_rollouts_goes_on_from_what_is_there(given, tmp_path):
    kept, full = str(tmp_path / "kept"), {"early_stop": False, "reuse_siblings": False}
    few = run_job(given, tmp_path / "few", rollouts=kept, math_shepherd={"num_rollouts": 2, **full})
    more = run_job(
        given, tmp_path / "more", rollouts=kept, math_shepherd={"num_rollouts": 6, **full}
    )
    assert not {seed for seed, _ in few.calls} & {seed for seed, _ in more.calls}
    by_id = {row.id: row for row in rows(tmp_path / "few")}
    for row in rows(tmp_path / "more"):
        for label, before in zip(row.labels, by_id[row.id].labels, strict=True):
            if before.trials == 2 and label.trials == 6:
                assert before.successes <= label.successes <= before.successes + 4


def test_other_settings_do_not_mix(given, tmp_path):
    kept = str(tmp_path / "kept")
    run_job(given, tmp_path / "a", rollouts=kept)
    with pytest.raises(StoreError, match="temperature': 0.8.*now.*temperature': 0.7"):
        run_job(given, tmp_path / "b", rollouts=kept, sampling={"temperature": 0.7})
    with pytest.raises(StoreError, match="completer was 'embedded', now 'other'"):
        run_job(given, tmp_path / "c", rollouts=kept, completer={"model": "other"})
    with pytest.raises(StoreError, match="strategy was 'plain/1 "):
        run_job(given, tmp_path / "d", rollouts=kept, strategy="few_shot_arithmetic")


def test_other_numbers_of_shards_find_the_rollouts(given, tmp_path):
    kept = str(tmp_path / "kept")
    run_job(given, tmp_path / "one", rollouts=kept)
    for index in range(3):
        split = run_job(given, tmp_path / "many", rollouts=kept, shard=f"{index}/3")
        assert split.calls == []
    one = {row.id: row for row in rows(tmp_path / "one")}
    many = {row.id: row for row in rows(tmp_path / "many")}
    assert one == many


def test_two_processes_do_not_write_the_same_rollouts(given, tmp_path):
    kept = tmp_path / "kept"
    with (
        RolloutStore(kept, Shard(), settings={}),
        pytest.raises(StoreError, match="another process is writing rollouts-00000-of-00001"),
    ):
        run_job(given, tmp_path / "labels", rollouts=str(kept))


def test_a_file_of_another_program_is_refused(tmp_path):
    import sqlite3

    path = tmp_path / "rollouts-00000-of-00001.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (x int)")
    db.close()
    with pytest.raises(StoreError, match="made by another program"):
        RolloutStore(tmp_path, settings={})
    path.write_bytes(b"no database at all, but long enough to be one" * 40)
    with pytest.raises(StoreError, match="NOTADB"):
        RolloutStore(tmp_path, settings={})


def test_the_judge_is_asked_once_about_a_solution(given, tmp_path):
    settings = {"method": "judge", "judge": {"votes": 3}}
    first = run_job(given, tmp_path / "a", rollouts=str(tmp_path / "kept"), **settings)
    assert texts(first) > 0
    again = run_job(given, tmp_path / "b", rollouts=str(tmp_path / "kept"), **settings)
    assert again.calls == []
    assert data(tmp_path / "a") == data(tmp_path / "b")
    assert {one.opinions[0].author for one in rows(tmp_path / "a") if one.opinions} == {"scripted"}


def test_the_bayes_method_hears_the_judge_and_a_prm_and_goes_on_from_what_is_kept(given, tmp_path):
    prm = str(tiny_scorer_folder(tmp_path / "prm"))
    settings = {"method": "bayes", "judge": {"votes": 2}, "problems_per_batch": 50, "scores": prm}
    kept = str(tmp_path / "kept")
    first = run_job(given, tmp_path / "a", rollouts=kept, **settings)
    found = rows(tmp_path / "a")
    assert {row.labeler for row in found} == {"bayes"}
    assert {row.completer for row in found} == {"scripted"}
    assert any(one.kind == "judge" for row in found for one in row.opinions)
    assert all(0.99 < sum(row.first_error.values()) < 1.01 for row in found)
    [manifest] = read_manifests(tmp_path / "a")
    assert set(manifest["notes"]["summary"]["tokens"]) == {"judge", "rollouts"}
    again = run_job(given, tmp_path / "b", rollouts=kept, **settings)
    assert first.calls
    assert again.calls == []
    assert data(tmp_path / "a") == data(tmp_path / "b")


def test_a_method_without_rollouts_opens_no_model(given, tmp_path):
    def refuse(config):
        raise AssertionError("no model is needed")

    with instead_of_models(Scripted()):
        from data_gen import label, models

        models.load_generator = refuse
        label.main(words(given, tmp_path / "labels", method="program"))
    assert {row.labeler for row in rows(tmp_path / "labels")} == {"program"}


def test_the_summary_says_what_came_out_and_what_it_cost(given, tmp_path, capsys):
    generator = run_job(given, tmp_path / "labels")
    out, found = capsys.readouterr().out, rows(tmp_path / "labels")
    hard = [[label.hard for label in row.labels] for row in found]
    wrong, good = (
        sum(False in row for row in hard),
        sum(None not in row and False not in row for row in hard),
    )
    assert (
        f"labels: {wrong} first error found, {good} all good, {len(hard) - wrong - good} und" in out
    )
    tokens = TOKENS * texts(generator)
    assert f"tokens written: {tokens:,} rollouts; {tokens / (wrong + good):,.0f} a decided" in out
    [manifest] = read_manifests(tmp_path / "labels")
    assert manifest["notes"]["summary"]["tokens"] == {"rollouts": tokens}
    assert manifest["in"] == manifest["out"] == 30


@pytest.mark.parametrize(
    ("settings", "words_"),
    [
        ({"scores": "x"}, "for the method bayes"),
        ({"judge": {"votes": 2}}, "for the methods judge and bayes"),
        ({"problems_per_batch": 0}, "should be 1 or more"),
        ({"choose": {"prms": []}}, "choose.prms is empty"),
        ({"choose": {"prms": ["a"]}}, "name two or more"),
        ({"choose": {"prms": ["a", "b"], "share": 0.5, "min_propensity": 0.6}}, "min_propensity"),
        ({"answer_pattern": "^Answer"}, "has no group"),
    ],
)
def test_settings_that_contradict_are_refused(settings, words_, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_job(tmp_path, tmp_path / "labels", **settings)
    assert words_ in " ".join(capsys.readouterr().err.split())


def test_the_servers_have_no_budget_of_their_own():
    from data_gen.models import ModelConfig
    from prm.generation.budget import BudgetConfig
    from prm.generation.server_config import ServersConfig

    servers = ServersConfig(endpoints=["http://127.0.0.1:1"], budget=BudgetConfig(tokens=3))
    with pytest.raises(ConfigError, match="one budget for all its models"):
        LabelConfig(completer=ModelConfig("m", servers))


def test_the_manifest_of_a_run_is_plain_json(given, tmp_path):
    run_job(given, tmp_path / "labels")
    [path] = (tmp_path / "labels").glob("shard-*.json")
    assert json.loads(path.read_text())["config"]["method"] == "math_shepherd"
