import contextlib
import json
import resource
import shutil
from collections import Counter

import pytest

from prm.errors import RecordError, StoreError
from prm.ledger import Ledger
from prm.records import Problem
from prm.store import (
    Shard,
    StoreWriter,
    content_hash,
    discard,
    read_json,
    read_manifests,
    read_records,
    read_unique,
    unique,
    write_json,
)

STEM = Shard().stem


def problem(number, statement="Calculate 1 + 1."):
    return Problem(f"p/{number}", statement, "2", "integer", "test", "train")


# Two-byte letters, so that a cut also falls inside a letter; an empty batch; skipped rows.
BATCHES = {
    "batch-0": ([problem(0, "é"), problem(1)], Counter()),
    "batch-1": ([], Counter(no_steps=2)),
    "batch-2": ([problem(2, "ü\n\n")], Counter(no_steps=1, held_out_pair=1)),
}


def open_store(folder, **changes):
    settings = {"job": "test", "config": {"seed": 0, "n": 2}, "config_hash": "a", "inputs": {}}
    return StoreWriter(folder, **{**settings, **changes})


def run(folder, until=None, **changes):
    """The job that makes the batches; it does what is not done yet."""
    with open_store(folder, **changes) as writer:
        for name, (records, skipped) in BATCHES.items():
            if name == until:
                raise KeyboardInterrupt
            if not writer.has(name):
                num_in = len(records) + skipped.total()
                writer.append(
                    name, records, num_in=num_in, skipped=skipped, ledger=Ledger(10, 5, 0.5)
                )
    return writer


def files(folder):
    """What a store says, without the times."""
    manifest = {
        key: value
        for key, value in read_json(folder / f"{STEM}.json").items()
        if key not in ("seconds",)
    }
    return (
        (folder / f"{STEM}.jsonl").read_bytes(),
        (folder / f"{STEM}.journal").read_bytes(),
        manifest,
    )


def killed_states(undisturbed):
    """(data, journal) after every byte that the job writes, in its order of writing."""
    data = (undisturbed / f"{STEM}.jsonl").read_bytes()
    journal = (undisturbed / f"{STEM}.journal").read_bytes()
    old_data = old_journal = 0
    for line in journal.splitlines(keepends=True):
        end = json.loads(line)["bytes"]
        for length in range(old_data, end + 1):
            yield data[:length], journal[:old_journal]
        for length in range(old_journal, old_journal + len(line) + 1):
            yield data[:end], journal[:length]
        old_data, old_journal = end, old_journal + len(line)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "whole"
    run(folder)
    return folder


def test_a_job_killed_after_any_byte_goes_on_to_the_same_bytes(undisturbed, tmp_path, monkeypatch):
    # Not to wait for the disk hundreds of times; the order of writing stays.
    monkeypatch.setattr("os.fsync", lambda _: None)
    states = list(killed_states(undisturbed))
    assert len(states) > 500
    manifest = {**read_json(undisturbed / f"{STEM}.json"), "state": "running"}
    for number, (data, journal) in enumerate(states):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_json(folder / f"{STEM}.json", manifest)
        (folder / f"{STEM}.jsonl").write_bytes(data)
        (folder / f"{STEM}.journal").write_bytes(journal)
        run(folder)
        assert files(folder) == files(undisturbed), (len(data), len(journal))
        shutil.rmtree(folder)


@pytest.mark.parametrize("until", BATCHES)
def test_an_interrupted_job_goes_on_to_the_same_bytes(until, undisturbed, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, until)
    assert read_json(tmp_path / f"{STEM}.json")["state"] == "running"
    run(tmp_path)
    assert files(tmp_path) == files(undisturbed)


def test_a_finished_job_does_nothing_when_it_is_started_again(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / f"{STEM}.json").read_bytes()
    writer = run(tmp_path)
    assert writer.is_done
    assert (tmp_path / f"{STEM}.json").read_bytes() == before


def test_counts_are_conserved_and_costs_add_up_over_a_resume(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "batch-2")
    writer = run(tmp_path)
    assert writer.summary() == "in 7 = out 3 + skipped 4 (1 held_out_pair, 3 no_steps)"
    assert writer.ledger == Ledger(30, 15, 1.5)
    assert writer.ledger.tokens == 45
    manifest = read_manifests(tmp_path)[0]
    assert manifest["in"] == manifest["out"] + sum(manifest["skipped"].values())
    assert [record.id for record in read_records(tmp_path, Problem)] == ["p/0", "p/1", "p/2"]


def test_a_job_that_loses_records_is_told_so(tmp_path):
    with (
        pytest.raises(StoreError, match=r"2 in, but 1 out and {} skipped"),
        open_store(tmp_path) as writer,
    ):
        writer.append("all", [problem(0)], num_in=2)
    assert read_json(tmp_path / f"{STEM}.json")["state"] == "running"


def test_a_store_of_other_settings_is_refused_and_the_setting_is_named(undisturbed):
    config = {"seed": 1, "n": 2}
    with pytest.raises(StoreError, match=r"differ: seed was 0, now 1\. Choose another"):
        open_store(undisturbed, config=config, config_hash="b")


def test_settings_are_guarded_before_the_first_batch_is_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_store(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(StoreError, match="seed was 0, now 1"):
        open_store(tmp_path, config={"seed": 1, "n": 2}, config_hash="b")


def test_a_shard_has_one_writer_at_a_time(tmp_path):
    with open_store(tmp_path):
        with pytest.raises(StoreError, match=f"another process is writing {STEM}"):
            open_store(tmp_path)
        with open_store(tmp_path, shard=Shard(1, 2)):
            pass
    run(tmp_path)


def test_a_store_that_was_refused_is_not_held(undisturbed):
    with pytest.raises(StoreError, match="another job"):
        open_store(undisturbed, job="other")
    run(undisturbed)


def test_a_store_of_other_inputs_is_refused(undisturbed):
    with pytest.raises(StoreError, match=r"another inputs.*an input changed"):
        open_store(undisturbed, inputs={"problems": "0123"})


def test_a_store_of_another_job_is_refused(undisturbed):
    with pytest.raises(StoreError, match="another job"):
        open_store(undisturbed, job="other")


def test_a_store_that_lost_bytes_is_refused(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    data = tmp_path / f"{STEM}.jsonl"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(StoreError, match="damaged"):
        open_store(tmp_path)


@pytest.mark.parametrize("ending", ["journal", "json"])
def test_a_damaged_journal_or_manifest_is_refused(ending, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    (tmp_path / f"{STEM}.{ending}").write_bytes(b"\0\0\0\n")
    with pytest.raises(StoreError, match=rf"{STEM}\.{ending}.*not readable"):
        open_store(tmp_path)


@pytest.fixture
def full_disk():
    """No file may grow beyond so many bytes, in this process, until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(num_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_full_disk_is_told_with_what_to_do_and_the_next_start_goes_on(
    room, undisturbed, tmp_path, full_disk
):
    def write():
        with open_store(tmp_path) as writer:
            full_disk(room)
            writer.append("batch-0", BATCHES["batch-0"][0], ledger=Ledger(10, 5, 0.5))

    with pytest.raises(StoreError) as caught:
        write()
    full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert f"{STEM}.jsonl: cannot be written" in str(caught.value)
    assert "make room" in str(caught.value)
    assert (tmp_path / f"{STEM}.jsonl").stat().st_size == room
    run(tmp_path)
    assert files(tmp_path) == files(undisturbed)


IDENTITY = {"job": "test", "config_hash": "a", "inputs": {}}


@pytest.mark.parametrize(
    ("until", "unless", "stays"),
    [
        ("batch-2", IDENTITY, True),
        (None, IDENTITY, False),
        ("batch-2", IDENTITY | {"config_hash": "b"}, False),
        ("batch-2", IDENTITY | {"inputs": {"problems": "0"}}, False),
        ("batch-2", None, False),
    ],
)
def test_what_is_begun_alike_and_not_done_is_not_discarded(until, unless, stays, tmp_path):
    with contextlib.suppress(KeyboardInterrupt):
        run(tmp_path, until)
    discard(tmp_path, Shard(), unless=unless)
    with open_store(tmp_path) as writer:
        assert writer.has("batch-0") is stays
        assert writer.num_rows == (2 if stays else 0)


def test_an_unfinished_store_cannot_be_read(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "batch-2")
    with pytest.raises(StoreError, match="is not finished"):
        list(read_records(tmp_path, Problem))
    with pytest.raises(StoreError, match="is not finished"):
        content_hash(tmp_path)


def test_a_folder_without_records_cannot_be_read(tmp_path):
    with pytest.raises(StoreError, match="no records here"):
        list(read_records(tmp_path, Problem))


def write_shards(folder, indices, count=2):
    for index in indices:
        shard = Shard(index, count)
        with open_store(folder, shard=shard) as writer:
            writer.append("all", [p for p in map(problem, range(20)) if shard.has(p.id)])


def test_shards_together_hold_every_record_once(tmp_path):
    write_shards(tmp_path, [1, 0])
    ids = [record.id for record in read_records(tmp_path, Problem)]
    assert sorted(ids) == sorted(problem(n).id for n in range(20))
    assert 0 < read_manifests(tmp_path)[0]["out"] < 20


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shards_partition_the_problems(count):
    shards = [Shard(index, count) for index in range(count)]
    for number in range(200):
        assert [shard.has(f"p/{number}") for shard in shards].count(True) == 1


@pytest.mark.parametrize("present", [0, 1])
def test_a_missing_shard_is_named(present, tmp_path):
    write_shards(tmp_path, [present])
    with pytest.raises(StoreError, match=f"shard-0000{1 - present}-of-00002 is not finished"):
        list(read_records(tmp_path, Problem))


def test_shards_of_different_counts_do_not_mix(tmp_path):
    write_shards(tmp_path, [0, 1])
    write_shards(tmp_path, [0], count=1)
    with pytest.raises(StoreError, match="different counts"):
        list(read_records(tmp_path, Problem))


def test_a_shard_without_problems_is_read_as_nothing(tmp_path):
    write_shards(tmp_path, [0])
    with open_store(tmp_path, shard=Shard(1, 2)):
        pass
    assert len(list(read_records(tmp_path, Problem))) == read_manifests(tmp_path)[0]["out"]


@pytest.mark.parametrize("text", ["1/1", "-1/2", "1", "a/b", "1/", "", "0/0"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(StoreError, match="0 <= i < n"):
        Shard.parse(text)


def test_a_shard_is_read_from_the_command_line():
    assert Shard.parse("3/8") == Shard(3, 8)


def test_the_content_hash_is_of_the_records_and_not_of_the_place(undisturbed, tmp_path):
    copy = shutil.copytree(undisturbed, tmp_path / "elsewhere")
    assert content_hash(copy) == content_hash(undisturbed)
    assert content_hash(copy / f"{STEM}.jsonl") == content_hash(undisturbed)
    write_shards(tmp_path / "other", [0, 1])
    assert content_hash(tmp_path / "other") != content_hash(undisturbed)


def test_ids_that_occur_twice_are_refused():
    assert unique([problem(0), problem(1)], "here") == [problem(0), problem(1)]
    with pytest.raises(RecordError, match=r"here: id 'p/1' occurs twice"):
        unique([problem(0), problem(1), problem(1)], "here")


def test_records_are_read_one_by_one_and_an_id_that_occurs_twice_is_told_at_the_end(tmp_path):
    with open_store(tmp_path) as writer:
        writer.append("all", [problem(0), problem(1), problem(0)])
    found = read_unique(tmp_path, Problem)
    assert [next(found), next(found), next(found)] == [problem(0), problem(1), problem(0)]
    with pytest.raises(RecordError, match="id 'p/0' occurs twice"):
        next(found)


def test_a_json_file_is_replaced_in_one_piece(tmp_path):
    path = tmp_path / "folder" / "file.json"
    write_json(path, {"a": "é"})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    assert [found.name for found in path.parent.iterdir()] == ["file.json"]
