import asyncio
import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.labelling.baselines import all_baselines, shares_prefixes, sweep_prices
from benchmarks.labelling.cells import QUICK_CELLS, all_worlds, base_names, hopeless_names
from benchmarks.labelling.comparison import Judge, compare, geometric_mean
from benchmarks.labelling.kept import Kept
from benchmarks.labelling.limit import Law
from benchmarks.labelling.outcomes import (
    NO_ERROR,
    UNKNOWN,
    ChargedRollouts,
    Method,
    Outcome,
    label_outcome,
    likeliest,
)
from benchmarks.labelling.report import (
    GOALS,
    abstention_targets,
    calibration_targets,
    ratio_targets,
    show_all,
)
from benchmarks.labelling.serving import SAME_FOR_ALL, ServedWorlds
from benchmarks.labelling.worlds import SyntheticWorld, WorldConfig, _problem
from data_gen.labelers import MathShepherdLabeler
from prm.errors import ConfigError

HERE = "tests.test_bench_labelling"


def tiny_worlds(seed):
    return [SyntheticWorld(WorldConfig(0.5, 0.0, max_steps=6), seed, min_wrong=20)]


def broken_worlds(seed):
    world = tiny_worlds(seed)[0]
    world._drafts = []
    return [world]


def twin_worlds(seed):
    return 3 * tiny_worlds(seed)


def no_worlds(seed):
    return []


@pytest.fixture(scope="module")
def served():
    with ServedWorlds(f"{HERE}:tiny_worlds", seed=3) as worlds:
        yield worlds


def outcome(places, tokens, setting="", beliefs=None):
    beliefs = np.ones(len(places)) if beliefs is None else np.array(beliefs)
    return Outcome(setting, np.array(places), beliefs, np.array(tokens), 0)


def draw(rollouts, requests):
    return asyncio.run(rollouts.sample_many(requests))


def test_a_served_solution_tells_only_its_steps(served):
    (world,) = tiny_worlds(3)
    pool = served.solutions(0)
    assert [one.steps for one in pool] == [one.steps for one in world.solutions]
    assert {one.final_answer for one in world.solutions} == {"right", "wrong"}
    assert {one.final_answer for one in pool} == {SAME_FOR_ALL}


def test_served_rollouts_are_those_of_the_world_and_every_method_sees_the_same(served):
    (world,) = tiny_worlds(3)
    pool = served.solutions(0)
    expected = [world.rollout(4, 2, number) for number in range(5)]
    for _ in range(2):
        rollouts = served.rollouts(0, pool)
        first = draw(rollouts, [(pool[4], 2, 3), (pool[1], 0, 1)])[0]
        later = draw(rollouts, [(pool[4], 2, 2)])[0]
        assert [(one.correct, one.num_tokens) for one in first + later] == expected


def test_a_whole_solution_is_its_own_verdict_at_no_tokens(served):
    pool = served.solutions(0)
    groups = draw(served.rollouts(0, pool), [(one, len(one.steps), 1) for one in pool])
    verdicts = [group[0].correct for group in groups]
    assert verdicts == [tiny_worlds(3)[0].rollout(i, len(one.steps), 0)[0]
                        for i, one in enumerate(pool)]  # fmt: skip
    assert {group[0].num_tokens for group in groups} == {0}


def test_worlds_of_one_name_are_told_apart():
    with ServedWorlds(f"{HERE}:twin_worlds", seed=3) as worlds:
        assert worlds.names == ["p0=0.5 q=0", "p0=0.5 q=0 (2)", "p0=0.5 q=0 (3)"]


def test_once_the_truth_is_told_there_are_no_rollouts_any_more():
    with ServedWorlds(f"{HERE}:tiny_worlds", seed=3) as worlds:
        pool = worlds.solutions(0)
        assert worlds.first_errors(0) == tiny_worlds(3)[0].first_errors
        with pytest.raises(RuntimeError, match="no rollouts any more"):
            draw(worlds.rollouts(0, pool), [(pool[0], 1, 1)])


@pytest.mark.parametrize(
    "source", ["nonsense", "no.such.module:f", f"{HERE}:no_such_name", f"{HERE}:no_worlds"]
)
def test_a_source_that_makes_no_worlds_is_refused(source):
    with pytest.raises(ConfigError, match=source):
        ServedWorlds(source, seed=0)


def test_a_world_that_fails_ends_the_run_and_gives_no_verdict(capfd):
    with ServedWorlds(f"{HERE}:broken_worlds", seed=0) as worlds:
        pool = worlds.solutions(0)
        with pytest.raises(RuntimeError, match="ended"):
            draw(worlds.rollouts(0, pool), [(pool[0], 1, 1)])
    assert "IndexError" in capfd.readouterr().err


def test_tokens_are_charged_to_the_solution_that_asked(served):
    pool = served.solutions(0)
    charged = ChargedRollouts(served.rollouts(0, pool), pool)
    requests = [(pool[0], 1, 2), (pool[2], 3, 4), (pool[0], 2, 1), (pool[1], len(pool[1].steps), 1)]
    groups = draw(charged, requests)
    sums = [sum(one.num_tokens for one in group) for group in groups]
    assert charged.tokens[:3].tolist() == [sums[0] + sums[2], 0, sums[1]]
    assert charged.tokens.sum() == sum(sums)
    assert charged.num_rollouts == 7


def test_a_labeler_is_charged_what_it_says_where_no_prefix_is_shared(served):
    pool = served.solutions(0)
    labeler = MathShepherdLabeler(reuse_siblings=False)
    charged = ChargedRollouts(served.rollouts(0, pool), pool)
    said = [one.tokens for one in labeler.label(pool, charged)]
    assert charged.tokens.tolist() == said
    assert sum(said) > 0


def test_the_likeliest_place_is_read_and_nothing_known_is_no_place():
    assert likeliest({"none": 0.2, "0": 0.3, "3": 0.5}) == (3, 0.5)
    assert likeliest({"none": 0.6, "0": 0.4}) == (NO_ERROR, 0.6)
    assert likeliest({}) == (UNKNOWN, 0.0)


def make_judge(truth, wrong, num_problems=None):
    problems = [f"p{i % (num_problems or len(truth))}" for i in range(len(truth))]
    return Judge(np.array(truth), np.array(wrong), problems)


def test_the_ratio_takes_the_cheapest_point_that_is_as_accurate():
    judge = make_judge([0, 1, 2, 3, NO_ERROR], [True] * 4 + [False])
    baseline = outcome([0, 1, 2, 0, 5], [100, 100, 100, 100, 999])
    curve = [
        outcome([0, 1, 0, 0, 0], [1, 1, 1, 1, 0]),
        outcome([0, 1, 2, 3, 0], [40, 40, 40, 40, 0]),
        outcome([0, 1, 0, 3, 0], [20, 20, 20, 40, 0]),
    ]
    ratios = judge.ratios(baseline, curve, judge.wrong)
    assert ratios[0] == 4.0
    assert ratios.shape == (201,)


def test_an_accuracy_that_is_not_reached_is_a_ratio_of_0_and_makes_the_mean_0():
    judge = make_judge([0, 1], [True, True])
    ratios = judge.ratios(outcome([0, 1], [9, 9]), [outcome([0, 0], [1, 1])], judge.wrong)
    assert ratios[0] == 0.0
    assert geometric_mean(np.array([4.0, 9.0])) == pytest.approx(6.0)
    assert geometric_mean(np.array([4.0, 0.0])) == 0.0


def test_a_curve_that_costs_nothing_is_counted_as_a_token_a_solution():
    judge = make_judge([0, 1], [True, True])
    ratios = judge.ratios(outcome([0, 1], [9, 11]), [outcome([0, 1], [0, 0])], judge.wrong)
    assert ratios[0] == 10.0


def test_the_best_setting_is_the_most_accurate_on_wrong_answers_then_the_cheapest():
    judge = make_judge([0, 1, NO_ERROR], [True, True, False])
    settings = (
        outcome([0, 0, NO_ERROR], [1, 1, 1], "worse"),
        outcome([0, 1, 0], [5, 5, 5], "dear"),
        outcome([0, 1, 0], [4, 4, 9], "best"),
    )
    assert judge.best(Method("m", settings)).setting == "best"


def test_resamples_take_problems_whole():
    judge = make_judge([0] * 6, [True] * 6, num_problems=3)
    sums = judge.sums(np.array([1, 10, 100, 1, 10, 100]), judge.wrong)
    assert sums[0] == 222
    assert np.all(sums % 2 == 0)
    assert len(set(sums[1:].tolist())) > 1
    assert judge.weights.sum(axis=1).tolist() == [3] * 201


@pytest.fixture(scope="module")
def compared():
    """A world, our curve and baseline being Math-Shepherd itself with 2 and with 8 rollouts."""
    with ServedWorlds(f"{HERE}:tiny_worlds", seed=5) as worlds:
        pool = worlds.solutions(0)

        def baselines(pool, factory):
            return [
                Method("eight", (label_outcome("8", MathShepherdLabeler(), pool, factory),)),
                Method("mute", (outcome([UNKNOWN] * len(pool), [7] * len(pool)),)),
            ]

        return compare(
            pool,
            lambda: worlds.rollouts(0, pool),
            lambda: worlds.first_errors(0),
            name="tiny",
            baselines=baselines,
            sweep=lambda pool, factory: [
                label_outcome(f"{k}", MathShepherdLabeler(k), pool, factory) for k in (2, 8)
            ],
            default=MathShepherdLabeler(),
        )


def test_a_baseline_beside_a_curve_that_holds_it_is_never_below_1(compared):
    eight, mute = compared.against
    assert eight.ratio.value >= 1.0
    assert eight.point.accuracy == compared.curve[1].accuracy > 0.5
    assert eight.is_counted
    assert not mute.is_counted
    assert mute.point.accuracy == 0.0
    assert compared.fixed.wrong.tokens == compared.curve[1].tokens


def test_the_counts_of_a_comparison_add_up(compared):
    assert compared.num_wrong >= 20
    assert sum(count for _, _, count in compared.fixed.bins) == compared.num_wrong
    low, high = compared.fixed.interval
    assert low <= compared.fixed.wrong.accuracy <= high


def test_a_target_is_met_only_where_its_cells_are(compared):
    met, none, worst = ratio_targets([compared], {"eight": 1.0, "mute": 1.0})
    assert met.is_met
    assert worst.is_met
    assert not none.is_met
    assert none.reached == "no cell is counted"
    below = ratio_targets([compared], {"eight": 1e6})[0]
    assert not below.is_met


def test_calibration_is_judged_by_the_farthest_cell(compared):
    def shifted(name, gap):
        wrong = dataclasses.replace(compared.fixed.wrong, accuracy=0.5, mean_belief=0.5 + gap)
        fixed = dataclasses.replace(compared.fixed, wrong=wrong)
        return dataclasses.replace(compared, name=name, fixed=fixed)

    cells = [shifted("a", 0.01), shifted("b", -0.06), shifted("c", 0.06)]
    base, other = calibration_targets(cells, {"a", "b"})
    assert not base.is_met
    assert "-0.060" in base.reached
    assert other.is_met


def test_sure_and_wrong_is_judged_in_the_hopeless_cells(compared):
    def said(name, share, right):
        fixed = dataclasses.replace(
            compared.fixed, above={"0.5": (1.0, 0.0), "0.8": (share, right)}
        )
        return dataclasses.replace(compared, name=name, fixed=fixed)

    cells = [said("usual", 0.9, 0.1), said("silent", 0.0, None), said("loud", 0.3, 0.8)]
    assert abstention_targets(cells, {"silent"})[0].is_met
    (loud,) = abstention_targets(cells, {"silent", "loud"})
    assert not loud.is_met
    assert "0.060" in loud.reached
    assert "loud" in loud.reached
    assert abstention_targets(cells, set()) == []


def test_all_solutions_are_shown_for_counted_baselines_alone(compared, capsys):
    show_all([compared, compared])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("eight") and line.split()[1] == "2" for line in lines)
    assert not any(line.startswith("mute") for line in lines)


def test_a_success_proves_what_is_before_it_to_a_reader_that_knows_the_law():
    """Without noise and recovery one success proves a beginning right: nothing before it errs."""
    law = Law(WorldConfig(0.5, 0.0, rollout_noise=1e-9, verdict_noise=1e-9), draws=20_000)
    won, lost = np.array([0.0, 3, 1, 0, 0]), np.array([0.0, 0, 0, 9, 9])
    belief = law.read(won, lost, (3, 4))
    assert belief.sum() == pytest.approx(1.0)
    assert belief[:2].max() < 1e-6
    assert belief[2] > 0.8
    nothing = law.read(np.zeros(5), np.zeros(5), (3, 4))
    # Without an early tilt no step is likelier than another by much.
    assert nothing[:5].max() < 0.35


def test_a_reader_that_knows_the_law_says_how_often_errors_are_where_the_counts_are_the_same():
    config = WorldConfig(0.4, 0.4, min_steps=5, max_steps=5, rollout_noise=0.02, verdict_noise=0.01)
    won, lost, siblings = np.array([0.0, 0, 1, 0, 1]), np.array([0.0, 1, 0, 0, 0]), (2, 5)
    rng, weights = np.random.default_rng(0), np.zeros(6)
    for _ in range(8000):
        drafts = _problem(config, rng)
        right = [draft.right ^ (rng.random() < config.verdict_noise) for draft in drafts]
        for draft, said in zip(drafts, right, strict=True):
            if said or sum(right) != siblings[0]:
                continue
            rates = config.rollout_noise + (1 - 2 * config.rollout_noise) * draft.rates[:5]
            place = 5 if draft.first_error is None else draft.first_error
            weights[place] += np.prod(rates**won * (1 - rates) ** lost)
    belief = Law(config).read(won, lost, siblings)
    assert belief == pytest.approx(weights / weights.sum(), abs=0.03)


def test_a_finished_cell_comes_back_and_not_for_another_seed(compared, tmp_path):
    Kept(tmp_path, "w", 1).save(compared)
    back = Kept(tmp_path, "w", 1).load("tiny")
    assert dataclasses.replace(back, fixed=compared.fixed) == compared
    assert back.fixed.wrong == compared.fixed.wrong
    assert Kept(tmp_path, "w", 2).load("tiny") is None
    assert Kept(tmp_path, "w", 1).load("other") is None


def test_a_finished_cell_is_not_good_for_a_changed_world(compared, tmp_path, monkeypatch):
    world = tmp_path / "some_world.py"
    world.write_text("# one")
    monkeypatch.syspath_prepend(tmp_path)
    Kept(tmp_path / "out", "some_world:f", 1).save(compared)
    assert Kept(tmp_path / "out", "some_world:f", 1).load("tiny") is not None
    world.write_text("# two")
    assert Kept(tmp_path / "out", "some_world:f", 1).load("tiny") is None


def test_the_cells_have_names_of_their_own_and_are_drawn_only_when_looked_into():
    names = [world.name for world in all_worlds(0)]
    assert len(set(names)) == len(names) == 36
    assert base_names() | hopeless_names() | set(QUICK_CELLS) <= set(names)


def test_an_unknown_world_ends_the_command_with_a_message():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.labelling.synthetic", "--world", "no.such:thing"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no.such" in done.stderr


def test_one_run_over_all_prices_costs_what_was_charged_and_more_for_a_lower_price(served):
    pool = served.solutions(0)
    curve = sweep_prices(pool, lambda: served.rollouts(0, pool), prices=(1e-3, 1e-4, 3e-5))
    tokens = [one.tokens.sum() for one in curve]
    assert 0 < tokens[0] < tokens[1] < tokens[2]
    assert [one.setting for one in curve] == ["price 0.001", "price 0.0001", "price 3e-05"]


def test_shared_prefixes_are_seen():
    (world,) = tiny_worlds(3)
    first, second = world.solutions[0], world.solutions[1]
    twin = dataclasses.replace(second, steps=(first.steps[0], *second.steps[1:]))
    assert not shares_prefixes([first, second])
    assert shares_prefixes([first, twin])


def test_every_baseline_has_its_settings_and_sees_the_same_draws(served):
    pool = served.solutions(0)
    methods = {one.name: one for one in all_baselines(pool, lambda: served.rollouts(0, pool))}
    assert set(GOALS) <= set(methods)
    uniform = methods["Math-Shepherd K=16, best threshold"].outcomes
    assert len(uniform) == 16
    inner = sum(len(one.steps) - 1 for one in pool)
    assert uniform[0].num_rollouts == 16 * inner
    early, late = (
        methods[f"OmegaPRM K=16, best threshold{end}"].outcomes for end in (", early stop", "")
    )
    for quick, whole in zip(early, late, strict=True):
        assert quick.places.tolist() == whole.places.tolist()
        assert quick.num_rollouts < whole.num_rollouts
