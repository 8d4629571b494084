"""Active choice: the most unsure solutions first, each with a known probability."""

import dataclasses
import math
import random
from collections import Counter

import pytest

from data_gen.labelers.active import (
    ChooseConfig,
    choose,
    propensities,
    step_uncertainty,
    uncertainty,
)
from prm.errors import ConfigError, StoreError
from tests.label_setup import rows, run_job, stores
from tests.tiny import tiny_scorer_folder

CONFIG = ChooseConfig(prms=["a", "b"], share=0.4, min_propensity=0.1)


def test_uncertainty_in_closed_form():
    # Two members that differ by 0.4 have a standard deviation of 0.2; p = 1/4 has 0.811 bits.
    assert step_uncertainty([[0.9, 0.5], [0.5, 0.5]], "ensemble") == pytest.approx([0.2, 0.0])
    bits = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert step_uncertainty([[0.25, 1.0, 0.5]], "entropy") == pytest.approx([bits, 0.0, 1.0])


def test_nothing_behind_the_first_predicted_error_counts():
    sure, behind = [0.99, 0.01, 0.5], [0.99, 0.9, 0.5]
    assert uncertainty([sure], "entropy") == pytest.approx(step_uncertainty([sure], "entropy")[0])
    assert uncertainty([behind], "entropy") == 1.0
    # The predicted error itself counts, and no step has no uncertainty.
    assert uncertainty([[0.99, 0.4]], "entropy") > 0.97
    assert uncertainty([[]], "entropy") == 0.0


@pytest.mark.parametrize("greedy", [0.0, 0.2])
def test_the_propensities_add_up_to_the_share_and_rise(greedy):
    source = random.Random(1)
    unsure = [source.random() ** 3 for _ in range(500)]
    found = propensities(unsure, dataclasses.replace(CONFIG, greedy_share=greedy))
    assert sum(found) == pytest.approx(0.4 * 500, rel=1e-6)
    assert min(found) >= 0.1
    assert max(found) <= 1
    ordered = [p for _, p in sorted(zip(unsure, found, strict=True))]
    assert ordered == sorted(ordered)
    assert found.count(1.0) >= greedy * 500


def test_solutions_that_nobody_is_unsure_of_share_what_there_is():
    assert propensities([0.0] * 10, CONFIG) == pytest.approx([0.4] * 10)
    assert propensities([], CONFIG) == []
    few = propensities([0.0] * 90 + [1.0] * 10, CONFIG)
    # At most all of the unsure ones and the floor of the others.
    assert few == pytest.approx([0.1] * 90 + [1.0] * 10)


def test_weights_of_one_over_propensity_give_back_the_pool():
    source = random.Random(2)
    values = {f"s{i}": source.random() for i in range(400)}
    total, estimates = sum(values.values()), []
    for seed in range(300):
        chosen = choose(values, CONFIG, seed=seed)
        estimates.append(sum(values[name] / one.propensity for name, one in chosen.items()))
    mean = sum(estimates) / len(estimates)
    error = math.sqrt(sum((e - mean) ** 2 for e in estimates) / len(estimates) / len(estimates))
    assert abs(mean - total) < 4 * error
    assert error < 0.02 * total


def test_a_choice_does_not_depend_on_order_and_company_only_on_seed():
    values = {f"s{i}": i / 100 for i in range(100)}
    backwards = dict(reversed(values.items()))
    assert choose(values, CONFIG, seed=1) == choose(backwards, CONFIG, seed=1)
    assert choose(values, CONFIG, seed=1) != choose(values, CONFIG, seed=2)


def test_one_that_no_prm_can_score_has_the_share_itself():
    chosen = Counter[str]()
    for seed in range(400):
        found = choose({"a": 0.3, "b": None}, CONFIG, seed=seed)
        chosen.update(list(found))
        assert all(
            one.chosen_by == {"a": "ensemble", "b": "unscored"}[n] for n, one in found.items()
        )
    assert abs(chosen["b"] / 400 - 0.4) < 0.1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_whose_uncertainty_is_no_number_counts_as_unscored(bad):
    config = dataclasses.replace(CONFIG, share=1.0)
    found = choose({"a": 0.3, "b": bad}, config, seed=0)
    assert found["b"].chosen_by.startswith("unscored")
    assert found["b"].propensity == 1.0


def test_scores_that_are_not_finite_are_no_scores(prms, monkeypatch):
    from data_gen.labelers import active

    monkeypatch.setattr(active, "score_steps", lambda *_: [[0.5, math.nan], [0.5, 0.25]])
    items = {"a": ("p", ["x", "y"]), "b": ("p", ["x", "z"])}
    for by in ("ensemble", "entropy"):
        found = active.unsure_of(prms, items, by)
        assert found["a"] is None
        assert found["b"] is not None


def test_a_greedy_part_and_a_floor_may_add_up_to_more_than_the_share():
    config = dataclasses.replace(CONFIG, share=0.5, greedy_share=0.5, min_propensity=0.05)
    assert sum(propensities([i / 20 for i in range(20)], config)) == pytest.approx(0.525 * 20)


def test_another_prm_in_the_same_folder_is_not_mixed_with_the_first(tmp_path):
    prm = tiny_scorer_folder(tmp_path / "prm", seed=1)
    given = stores(tmp_path, 4)
    config = {"prms": [str(prm)], "by": "entropy", "share": 0.5}
    run_job(given, tmp_path / "labels", choose=config)
    (prm / "added.txt").write_text("other")
    with pytest.raises(StoreError, match=r"choose\.prms\.0"):
        run_job(given, tmp_path / "labels", choose=config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prms": []},
        {"prms": ["a"]},
        {"share": 0.0},
        {"share": 1.2},
        {"greedy_share": 0.5},
        {"min_propensity": 0.0},
        {"min_propensity": 0.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="choose"):
        dataclasses.replace(CONFIG, **wrong)


@pytest.fixture(scope="module")
def prms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prms")
    return [str(tiny_scorer_folder(folder / str(seed), seed=seed)) for seed in (1, 2)]


@pytest.mark.parametrize("by", ["ensemble", "entropy"])
def test_the_job_labels_the_chosen_and_records_how(by, prms, tmp_path):
    given = stores(tmp_path, 12)
    config = {"prms": prms, "by": by, "share": 0.5, "min_propensity": 0.2, "greedy_share": 0.1}
    run_job(given, tmp_path / "labels", choose=config)
    run_job(given, tmp_path / "all")
    found = rows(tmp_path / "labels")
    assert 0 < len(found) < 36
    assert all(0.2 <= row.propensity <= 1 for row in found)
    assert {row.chosen_by for row in found} == {by, f"{by}/certain"}
    assert len({row.propensity for row in found}) > 2
    assert {row.chosen_by for row in rows(tmp_path / "all")} == {"all"}
    again = run_job(given, tmp_path / "again", choose=config, problems_per_batch=1)
    assert again.calls
    assert [(r.id, r.propensity) for r in rows(tmp_path / "again")] == [
        (r.id, r.propensity) for r in found
    ]
    from tests.sample_setup import counts

    assert counts(tmp_path / "labels") == (36, len(found), {"not_chosen": 36 - len(found)})
