"""Every file of configs/ loads into its job's settings, as the pipeline gives them."""

from pathlib import Path

import pytest
import yaml

from data_gen.critiques import CritiquesConfig
from data_gen.importers import ImportersConfig
from data_gen.label import LabelConfig
from data_gen.pipeline import plan
from data_gen.prefetch import PrefetchConfig
from data_gen.problems import ProblemsConfig
from data_gen.prompting import load_strategy
from data_gen.sample import SampleConfig
from prm.config import fingerprint, load
from prm.evaluation.evaluate import EvaluateConfig
from prm.publish.publish import PublishConfig
from prm.report.job import ReportConfig
from prm.training.train_critic import TrainCriticConfig
from prm.training.train_prm import TrainPRMConfig

CONFIGS = Path(__file__).parents[1] / "configs"
CLASSES = {
    "problems": ProblemsConfig,
    "sample": SampleConfig,
    "label": LabelConfig,
    "critiques": CritiquesConfig,
    "train_prm": TrainPRMConfig,
    "train_critic": TrainCriticConfig,
    "publish": PublishConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
}
PIPELINES = ["quickstart", "results", "qwq"]
# On a cluster each job is started by itself, without the pipeline's arguments.
ALONE_CLASSES = CLASSES | {"prefetch": PrefetchConfig, "importers": ImportersConfig}
ALONE = sorted(set(CONFIGS.glob("qwq/*.yaml")) - set(CONFIGS.glob("qwq/pipeline.yaml")))


def read(folder, name):
    return yaml.safe_load((CONFIGS / folder / name).read_text()) or {}


def jobs(folder, output="runs/x"):
    return plan(Path(output), read(folder, "pipeline.yaml"), CONFIGS / folder)


def settings(job, folder, smaller=None):
    """What the job's own command line gives."""
    command = job.command(CONFIGS / folder, smaller or {})
    at = command.index("--config")
    return load(CLASSES[Path(job.config).stem], command[at + 1], command[at + 2 :])


@pytest.mark.parametrize("folder", PIPELINES)
def test_every_job_of_a_pipeline_loads_its_settings(folder):
    loaded = {job.name: settings(job, folder) for job in jobs(folder)}
    assert {type(one) for one in loaded.values()} == set(CLASSES.values())
    assert loaded["sample"].problems == loaded["problems"].output
    assert loaded["label"].solutions == loaded["sample"].output
    assert loaded["critiques"].labelled == loaded["label"].output
    assert loaded["select"].split == "selection"
    assert loaded["test"].split == "test"
    assert all(load_strategy(name) for name in loaded["sample"].strategies)
    load_strategy(loaded["label"].strategy)


@pytest.mark.parametrize("folder", PIPELINES)
def test_every_file_of_a_pipeline_is_read_by_a_job(folder):
    used = {job.config for job in jobs(folder)}
    used |= {"pipeline.yaml", "smoke.yaml", "prefetch.yaml", "importers.yaml"}
    found = {path.name for path in (CONFIGS / folder).glob("*.yaml")}
    assert found - used == set()
    assert {job.config for job in jobs(folder)} <= found


@pytest.mark.parametrize("folder", PIPELINES)
def test_each_seed_trains_a_prm_of_its_own(folder):
    seeds = read(folder, "pipeline.yaml")["seeds"]
    trained = [settings(job, folder) for job in jobs(folder) if job.config == "train_prm.yaml"]
    assert [one.seed for one in trained] == seeds
    assert len({one.output for one in trained}) == len(seeds) == len(set(seeds))


def test_the_short_form_changes_settings_that_exist_and_changes_them():
    smaller = read("quickstart", "smoke.yaml")
    assert set(smaller) <= set(CLASSES)
    changed = set()
    for job in jobs("quickstart"):
        whole = settings(job, "quickstart")
        short = settings(job, "quickstart", smaller)
        if fingerprint(whole) != fingerprint(short):
            changed.add(Path(job.config).stem)
    assert changed == set(smaller)


@pytest.mark.parametrize(
    ("folder", "stop"), [("quickstart", ("\n\n",)), ("results", ("\n\n",)), ("qwq", ())]
)
def test_a_rollout_stops_where_the_file_says(folder, stop):
    # A model that thinks at length writes empty lines between its steps.
    [job] = [job for job in jobs(folder) if job.name == "label"]
    assert settings(job, folder).sampling.stop == stop
    if folder == "quickstart":
        assert settings(job, folder, read(folder, "smoke.yaml")).sampling.stop == stop


@pytest.mark.parametrize(
    ("folder", "stop"), [("quickstart", ("\n\n",)), ("results", ("\n\n",)), ("qwq", ())]
)
def test_a_sample_stops_where_the_file_says(folder, stop):
    [job] = [job for job in jobs(folder) if job.name == "sample"]
    assert settings(job, folder).sampling.stop == stop
    if folder == "quickstart":
        assert settings(job, folder, read(folder, "smoke.yaml")).sampling.stop == stop


@pytest.mark.parametrize("folder", PIPELINES)
def test_one_sample_is_drawn_for_each_number_that_is_measured(folder):
    loaded = {job.name: settings(job, folder) for job in jobs(folder)}
    assert max(loaded["test"].ns) <= loaded["sample"].sampling.n


def test_one_sample_is_drawn_for_each_number_that_the_short_form_measures():
    smaller = read("quickstart", "smoke.yaml")
    loaded = {job.name: settings(job, "quickstart", smaller) for job in jobs("quickstart")}
    assert max(loaded["test"].ns) <= loaded["sample"].sampling.n
    assert loaded["test"].min_trials <= loaded["label"].math_shepherd.num_rollouts


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_a_file_for_a_cluster_loads_by_itself(path):
    assert type(load(ALONE_CLASSES[path.stem], path)) is ALONE_CLASSES[path.stem]


@pytest.mark.parametrize("name", ["problems", "sample", "label", "critiques", "train_critic"])
def test_a_job_by_itself_reads_and_writes_where_the_pipeline_does(name):
    [job] = [job for job in jobs("qwq", "runs/qwq") if job.name == name]
    assert load(CLASSES[name], CONFIGS / "qwq" / job.config) == settings(job, "qwq")
