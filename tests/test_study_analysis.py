"""What studies conclude from runs: numbers in, conclusions out. No service here."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import learning_rate
from service import plan as plans, raw_spec
from service.curves import Summary
from service.pictures import ReportPicture
from service.pictures.__main__ import make
from service.plan import Plan
from service.states import Direction
from service.studies import batch_size, evidence, grid, importances, lr_range, pruning, sayings, search, texts
from service.studies.batch_size import BatchRun
from service.studies.grid import Outcome
from service.studies.lr_range import Finding
from service.studies.requests import GridRequest, SearchRequest
from service.studies.search import Tried

SVG = "{http://www.w3.org/2000/svg}"
RATES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
STEPS = 100


def runs(ends: list[float], noise: list[float] | None = None, seeds: int = 2) -> Any:
    """Losses that fall from 2 to an end each, with some noise: shape (rates, seeds, STEPS)."""
    chance = np.random.default_rng(0)
    path = np.linspace(0, 1, STEPS) ** 0.5
    found = np.empty((len(ends), seeds, STEPS))
    for at, end in enumerate(ends):
        spread = (noise or [0.01] * len(ends))[at]
        found[at] = 2 + (end - 2) * path + spread * chance.standard_normal((seeds, STEPS))
    return found


def unmeasured(losses: Any) -> Any:
    return np.full(losses.shape[:2], np.nan)


def found_in(losses: Any, held_out: Any = None) -> Finding:
    return lr_range.analyse(RATES, losses, unmeasured(losses) if held_out is None else held_out)


def test_the_suggestion_lies_between_the_best_rate_and_the_edge() -> None:
    found = found_in(runs([1.9, 1.0, 0.2, 0.5, 3.0], [0.01, 0.01, 0.01, 0.05, 0.05]))
    assert found.best_after_steps == 1e-2
    assert found.stability_edge == 1e-1
    assert found.rates[3].unstable == "oscillates"
    assert found.rates[4].unstable == "rises"
    assert found.suggested == pytest.approx(1e-2 * 10 ** (1 / 3))
    assert found.suggested is not None
    assert found.interval is not None
    assert found.interval[0] <= found.suggested <= found.interval[1]
    assert found.rule == lr_range.RULE
    assert found.others["tenth"] == pytest.approx(1e-3)


def test_an_interval_from_one_seed_claims_no_more() -> None:
    """What other seeds would say is in none of its resamples."""
    losses = runs([1.9, 1.0, 0.2, 0.5, 3.0], [0.01, 0.01, 0.01, 0.05, 0.05])
    two, one = (lr_range.as_dict(found_in(each)) for each in (losses, losses[:, :1]))
    for report, words, label in (
        (two, "at 95 %", "95 % interval of the suggestion"),
        (one, "by one seed, which others may contradict", "interval of the suggestion, from one seed"),
    ):
        assert words in " ".join(texts.sentences("lr_range", report))
        picture = ElementTree.fromstring(drawn("lr_range", report, "svg"))
        legend = {"".join(text.itertext()) for text in picture.iter(f"{SVG}text")}
        assert label in legend
        assert ("training loss, all seeds" in legend) is (report is two)


def test_a_loss_that_is_cut_to_leave_room_is_said_to_be() -> None:
    for end, words in ((3.0, set()), (30.0, {"training loss, cut at 4"})):
        report = lr_range.as_dict(found_in(runs([1.9, 1.0, 0.2, 0.5, end], [1e-6] * 5)))
        picture = ElementTree.fromstring(drawn("lr_range", report, "svg"))
        told = {"".join(text.itertext()) for text in picture.iter(f"{SVG}text")}
        assert {text for text in told if "cut at" in text} >= words
        assert any("cut at" in text for text in told) is bool(words)
        assert ("after the steps, cut at 4" in texts.text("lr_range", report, 80)) is bool(words)


def test_a_rate_that_diverges_is_the_edge() -> None:
    losses = runs([1.9, 1.0, 0.2, 0.15, 0.5])
    losses[4, 1, 30:] = np.inf
    found = found_in(losses)
    assert (found.best_after_steps, found.stability_edge) == (1e-1, 1.0)
    assert found.rates[4].loss is None
    assert found.rates[4].unstable == "diverges"


def test_rates_are_judged_by_the_held_out_loss_where_it_was_measured() -> None:
    losses = runs([1.9, 1.0, 0.2, 0.1, 3.0], [0.01, 0.01, 0.01, 0.01, 0.3])
    held_out = np.repeat(np.array([[1.9], [1.0], [0.25], [0.6], [3.0]]), 2, axis=1)
    assert found_in(losses).best_after_steps == 1e-1
    assert found_in(losses, held_out).best_after_steps == 1e-2


@pytest.mark.parametrize(
    ("code", "losses"),
    [
        ("flat", runs([1.99, 1.98, 1.95, 1.98, 1.99])),
        ("range_too_low", runs([1.9, 1.5, 1.0, 0.5, 0.1])),
        ("range_too_high", runs([0.1, 0.5, 1.5, 3.0, 5.0])),
        ("diverged", np.full((5, 2, STEPS), np.inf)),
        ("no_runs", np.full((5, 2, STEPS), np.nan)),
    ],
)
def test_where_the_runs_tell_nothing_the_reason_is_told(code: str, losses: Any) -> None:
    found = found_in(losses)
    assert found.no_clear_answer is not None
    assert found.no_clear_answer["code"] == code
    assert (found.suggested, found.interval, found.rule) == (None, None, None)


def test_runs_that_chance_decides_give_no_answer() -> None:
    ends = np.full((9, 2), 1.0)
    for seed, best in enumerate((2, 7)):  # each seed has a best rate of its own, far from the other's
        ends[best, seed] = 0.05
    losses = np.repeat(ends[:, :, None], STEPS, axis=2)
    losses[:, :, 0] = 2.0
    found = lr_range.analyse([float(rate) for rate in np.geomspace(1e-4, 1, 9)], losses, unmeasured(losses))
    assert found.no_clear_answer is not None
    assert found.no_clear_answer["code"] == "noisy"


def test_what_is_learned_by_heart_alone_gives_no_answer() -> None:
    losses = runs([1.9, 1.0, 0.2, 0.5, 3.0], [0.01, 0.01, 0.01, 0.05, 0.05])
    found = found_in(losses, np.full((5, 2), 2.0))
    assert found.no_clear_answer is not None
    assert found.no_clear_answer["code"] == "memorised"


def test_a_run_that_does_not_count_changes_nothing() -> None:
    losses = runs([1.9, 1.0, 0.2, 0.5, 3.0], [0.01, 0.01, 0.01, 0.05, 0.05])
    losses[1, 0] = np.nan
    found = found_in(losses)
    assert found.rates[1].runs == 1
    assert (found.best_after_steps, found.stability_edge) == (1e-2, 1e-1)


def test_losses_below_nothing_are_judged_as_they_are_above() -> None:
    losses = runs([1.9, 1.0, 0.2, 0.5, 3.0], [0.01, 0.01, 0.01, 0.05, 0.05])
    below = losses - 2.5  # as the logarithm of a likelihood may be
    found, usual = found_in(below), found_in(losses)
    assert (
        (found.best_after_steps, found.stability_edge) == (usual.best_after_steps, usual.stability_edge) == (1e-2, 0.1)
    )
    assert found.suggested == pytest.approx(usual.suggested)
    assert found.initial_loss == pytest.approx(-0.5, abs=0.1)
    told = [rate.loss for rate in found.rates]
    assert told == pytest.approx([rate.loss - 2.5 for rate in usual.rates if rate.loss], abs=1e-3)
    report = lr_range.as_dict(found)
    assert drawn("lr_range", report)
    assert "suggested" in texts.text("lr_range", report, 80)
    held_out = np.repeat(np.array([[-0.5], [-1.0], [-2.0], [-1.5], [1.0]]), 2, axis=1)
    assert found_in(below, held_out).no_clear_answer is None
    nothing = np.zeros((5, 2, STEPS))
    assert (found_in(nothing).no_clear_answer or {})["code"] == "flat"


def test_what_the_last_update_broke_is_infinite_and_not_unmeasured() -> None:
    measured = Summary(1, 1, "val_loss", Direction.MIN, 1, 0, 0.5, 1, 0.5, 1)
    assert evidence.held_out(measured) == 0.5
    assert (
        evidence.held_out(replace(measured, last=np.nan)) == evidence.held_out(replace(measured, last=np.inf)) == np.inf
    )
    assert np.isnan(evidence.held_out(None))


def test_the_suggested_rate_is_as_good_as_the_best_of_all_and_noise_has_none(tmp_path: Path) -> None:
    """In short; `python -m benchmarks.learning_rate` does it for all optimizers and models."""
    digits, noise = tmp_path / "digits", tmp_path / "noise"
    for folder, shuffled in ((digits, False), (noise, True)):
        folder.mkdir()
        learning_rate.save_digits(folder, shuffled=shuffled)
    rates = [float(rate) for rate in np.geomspace(1e-3, 1, 7)]
    found = learning_rate.find(digits, "linear", "adam", rates, steps=40)
    assert found.suggested is not None
    reached = [learning_rate.accuracy(digits, "linear", "adam", rate, 6, (0,)) for rate in [found.suggested, *rates]]
    assert reached[0] >= max(reached) - 0.015
    assert learning_rate.find(noise, "linear", "adam", rates, steps=40).suggested is None


def test_an_interval_is_students() -> None:
    assert grid.interval([1.0]) is None
    assert grid.interval([1.0, 3.0]) == pytest.approx([2 - 12.7062, 2 + 12.7062], abs=1e-3)


def test_a_verdict_follows_the_direction_and_says_how_many_seeds_are_missing() -> None:
    def judged(direction: Direction, *values: list[float]) -> dict[str, Any]:
        runs = [Outcome("j", {"a": at}, seed, each) for at, part in enumerate(values) for seed, each in enumerate(part)]
        [found] = grid.report("m", direction, runs)["verdicts"]
        assert isinstance(found, dict)
        return found

    clear = judged(Direction.MIN, [0.50, 0.51, 0.52], [0.10, 0.11, 0.12])
    assert (clear["a"], clear["verdict"]) == ({"a": 1}, "better")
    close = judged(Direction.MAX, [0.10, 0.20], [0.14, 0.25])
    assert close["verdict"] == "cannot_tell"
    assert close["interval"][0] < close["difference"] < close["interval"][1]
    assert close["more_seeds_needed"] > 0
    assert judged(Direction.MIN, [0.1], [0.2])["more_seeds_needed"] > 0


def outcomes() -> list[Outcome]:
    """A factorial in which `a` moves the value ten times as far as `b`, without noise."""
    return [
        Outcome(f"job-{a}{b}{seed}", {"a": a, "b": b}, seed, 10.0 * a + b)
        for a in (0, 1)
        for b in (0, 1)
        for seed in (0, 1)
    ]


def test_main_effects_share_the_variance() -> None:
    effects = grid.main_effects(outcomes())
    assert effects["a"]["share_of_variance"] == pytest.approx(100 / 101)
    assert effects["b"]["share_of_variance"] == pytest.approx(1 / 101)
    assert [level["mean"] for level in effects["a"]["levels"]] == [0.5, 10.5]


def test_a_range_is_compared_by_its_quarters() -> None:
    asked = searching(space={"rate": {"low": 1e-4, "high": 1.0, "log": True}})
    tried = [Tried({"rate": rate}, "complete", rate) for rate in (2e-4, 5e-4, 0.5, 0.2)]
    found = [Outcome("j", each.parameters, 0, each.value) for each in tried]
    effects = search.report(asked, Direction.MIN, found, tried, 4, 4)["main_effects"]["rate"]
    assert [level["value"] for level in effects["levels"]] == [[1e-4, 1e-3], [0.1, 1.0]]
    assert [level["mean"] for level in effects["levels"]] == pytest.approx([3.5e-4, 0.35])
    assert effects["share_of_variance"] > 0.5


def test_a_grid_ranks_by_the_metrics_direction() -> None:
    least, most = (grid.report("m", direction, outcomes()) for direction in (Direction.MIN, Direction.MAX))
    assert least["best"]["parameters"] == {"a": 0, "b": 0}
    assert most["best"]["parameters"] == {"a": 1, "b": 1}
    assert [row["rank"] for row in most["ranking"][:3]] == [1, 1, 3]
    assert [verdict["b"] for verdict in most["verdicts"]] == [{"a": 1, "b": 0}, {"a": 0, "b": 1}, {"a": 0, "b": 0}]


def test_a_grid_of_equal_values_has_nothing_to_explain() -> None:
    """Whose mean is not one of them, in the last digit."""
    same = [Outcome("j", {"a": a, "b": b}, seed, 0.1) for a in (0, 1) for b in (0, 1, 2) for seed in (0, 1)]
    effects = grid.main_effects(same)
    assert [each["share_of_variance"] for each in effects.values()] == [None, None]


def test_a_level_of_one_run_explains_nothing() -> None:
    alone = [Outcome("j", {"a": a}, 0, float(a)) for a in range(4)]
    report = grid.report("m", Direction.MIN, alone)
    assert report["main_effects"]["a"]["share_of_variance"] is None
    assert "a: mean 0 at 0, 1 at 1, 2 at 2, 3 at 3" in texts.sentences("grid", report)
    twice = [*alone, *(Outcome("j", {"a": a}, 1, float(a)) for a in range(4))]
    assert grid.main_effects(twice)["a"]["share_of_variance"] == 1


def test_a_grid_says_what_may_mislead() -> None:
    failed = [
        Outcome(each.job_id, each.parameters, each.seed, None if each.job_id == "job-001" else each.value)
        for each in outcomes()
    ]
    report = grid.report("m", Direction.MIN, failed)
    said = list(texts.sentences("grid", report))
    assert any("(1 of its 2 runs gave a value)" in sentence for sentence in said)
    assert any(sentence.startswith("runs_without_metric: 1 of 8 runs gave no value") for sentence in said)
    [single] = grid.report("m", Direction.MIN, [Outcome("j", {"a": a}, 0, a / 4) for a in (1, 2)])["verdicts"]
    assert (single["verdict"], single["difference"], single["interval"]) == ("cannot_tell", -0.25, None)
    chance = np.random.default_rng(0).normal(0, 0.1, (8, 3))
    many = [Outcome("j", {"a": a}, seed, a // 7 + chance[a, seed]) for a in range(8) for seed in range(3)]
    report = grid.report("m", Direction.MIN, many)
    assert [note["code"] for note in report["warnings"]] == ["many_pairs"]
    assert "the best of 8 settings" in report["warnings"][0]["message"]
    assert any(sentence.endswith("; and 1 more") for sentence in texts.sentences("grid", report))


def test_a_grid_without_any_value_has_no_best() -> None:
    report = grid.report("m", Direction.MIN, [Outcome(None, {"a": 1}, 0, None)])
    assert report["best"] is None
    assert report["warnings"][0]["code"] == "runs_without_metric"


def test_asha_lets_one_in_three_go_on() -> None:
    assert pruning.rungs(27) == [3, 9]
    histories = {number: [float(number)] * 3 for number in range(6)}
    ended = pruning.hopeless("asha", Direction.MIN, histories, {}, 27)
    assert sorted(ended) == [2, 3, 4, 5]
    assert sorted(pruning.hopeless("asha", Direction.MAX, histories, {}, 27)) == [0, 1, 2, 3]
    assert pruning.hopeless("asha", Direction.MIN, {0: [1.0] * 2}, {1: [0.0] * 27}, 27) == {}


def test_asha_takes_at_most_half_the_steps_and_finds_what_is_as_good() -> None:
    """On losses that are made up, four at a time; test_study_reports has the long form, with real trainings."""
    validations, parallel, noise = 80, 4, 0.01
    chance = np.random.default_rng(8)
    ends, speeds = chance.uniform(0.1, 2.0, 24), chance.uniform(5, 20, 24)
    taken = np.arange(1, validations + 1)
    curves = ends[:, None] + (2.3 - ends[:, None]) * np.exp(-taken / speeds[:, None])
    curves += noise * chance.standard_normal(curves.shape)
    waiting, running, ended = list(range(24)), dict[int, list[float]](), dict[int, list[float]]()
    while waiting or running:
        while waiting and len(running) < parallel:
            running[waiting.pop(0)] = []
        for number, history in running.items():
            history.append(float(curves[number, len(history)]))
        hopeless = pruning.hopeless("asha", Direction.MIN, running, ended, validations)
        over = [number for number, history in running.items() if len(history) == validations or number in hopeless]
        ended |= {number: running.pop(number) for number in over}
    assert sum(map(len, ended.values())) <= 24 * validations / 2
    whole = [history for history in ended.values() if len(history) == validations]
    assert min(map(min, whole)) <= curves.min() + 3 * noise


def test_median_waits_for_whole_trials() -> None:
    whole = {number: [float(number)] * 10 for number in range(5)}
    running = {7: [9.0] * 4, 8: [1.0] * 4}
    assert list(pruning.hopeless("median", Direction.MIN, running, whole, 10)) == [7]
    assert pruning.hopeless("median", Direction.MIN, running, dict(list(whole.items())[:4]), 10) == {}
    assert pruning.hopeless("none", Direction.MIN, running, whole, 10) == {}


def searching(**more: Any) -> SearchRequest:
    space = {
        "rate": {"low": 1e-4, "high": 1.0, "log": True},
        "layers": {"choices": [[8], [8, 8]]},
        "size": {"type": "int", "low": 1, "high": 9},
    }
    return SearchRequest.model_validate({"base": {}, "space": space, "trials": 20, "metric": "val_loss"} | more)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_same_history_gives_the_same_suggestions(sampler: str) -> None:
    asked = searching(sampler=sampler)
    first = search.suggest(asked, Direction.MIN, [], 12)
    assert first == search.suggest(asked, Direction.MIN, [], 12)
    tried = [Tried(parameters, "complete", parameters["rate"]) for parameters in first]
    tried[3] = Tried(first[3], "pruned", 0.5)
    tried[4] = Tried(first[4], "failed")
    [next_one] = search.suggest(asked, Direction.MIN, tried, 1)
    assert next_one not in first
    assert next_one["layers"] in ([8], [8, 8])
    assert isinstance(next_one["size"], int)


def test_importances_name_the_parameter_that_matters() -> None:
    asked = searching()
    tried = [Tried(each, "complete", each["rate"]) for each in search.suggest(asked, Direction.MIN, [], 16)]
    found = [Outcome("j", each.parameters, 0, each.value) for each in tried]
    shares = importances.weighed(asked, search.report(asked, Direction.MIN, found, tried, 16, 16))["importances"]
    assert max(shares, key=lambda name: shares[name]) == "rate"
    few = search.report(asked, Direction.MIN, found[:2], tried[:2], 2, 2)
    assert importances.weighed(asked, few)["importances"] is None


def test_only_what_varied_has_an_importance() -> None:
    def weighed(values: dict[str, list[Any]]) -> Any:
        asked = GridRequest.model_validate({"base": {}, "grid": values, "seeds": 3})
        chance = np.random.default_rng(0)
        points = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
        found = [Outcome("j", each, seed, chance.normal()) for each in points for seed in range(6)]
        return importances.weighed(asked, grid.report("m", Direction.MIN, found))["importances"]

    assert weighed({"rate": [0.1], "size": [8]}) is None
    assert weighed({"rate": [0.1, 0.2], "size": [8]}) == {"rate": 1.0}
    assert set(weighed({"rate": [0.1, 0.2], "size": [8], "layers": [[8], [8, 8]]})) == {"rate", "layers"}


def test_what_is_not_finite_is_the_worst_whichever_way_is_better() -> None:
    running = {0: [np.nan] * 3, 1: [0.4, -np.inf, 0.4], 2: [0.5, np.inf, 0.5], 3: [0.9] * 3}
    assert sorted(pruning.hopeless("asha", Direction.MAX, running, {}, 9)) == [0, 1, 2]
    assert sorted(pruning.hopeless("asha", Direction.MIN, running, {}, 9)) == [0, 2, 3]
    whole = {number: [0.5] * 9 for number in range(10, 15)}
    assert sorted(pruning.hopeless("median", Direction.MAX, running, whole, 9)) == [0, 1]


def planned(batch_size: int | str) -> Plan:
    raw = {"task": "classification", "dataset": "digits", "hyperparameters": {"batch_size": batch_size}}
    return plans.make(raw_spec.parse(raw, lambda _: []), 1797)


def sizes(policy: str) -> dict[str, Any]:
    runs = [
        BatchRun("a", 8, 0.01, planned(8), 100, 800, 1.0, 4.0, 0.95, 200.0),
        BatchRun("b", 64, 0.01, planned(64), 20, 1280, 1.6, 1.0, 0.97, 1280.0),
        BatchRun("c", "full", 0.01, planned("full"), best=0.6),
    ]
    return batch_size.report({"metric": "val_accuracy", "value": 0.9}, Direction.MAX, policy, runs)


def test_batch_sizes_are_compared_in_time_and_in_accuracy() -> None:
    report = sizes("fixed")
    assert (report["fastest_to_target"], report["most_accurate"], report["confounded"]) == (64, 64, True)
    assert report["rows"][2]["seconds_to_target"] is None
    assert any("Never reached it: batch size full" in sentence for sentence in report["conclusions"])
    assert sizes("range_test")["confounded"] is False


def test_a_seed_that_never_came_to_the_target_took_longer_than_all_others() -> None:
    def run(seconds: float | None) -> BatchRun:
        never = BatchRun("j", 8, 0.1, planned(8), best=0.8)
        return (
            never
            if seconds is None
            else replace(never, steps_to_target=10, epochs_to_target=1, seconds_to_target=seconds)
        )

    def typical(*seconds: float | None) -> Any:
        known = [run(each) for each in seconds]
        [row] = batch_size.report({"metric": "val_accuracy", "value": 0.9}, Direction.MAX, "fixed", known)["rows"]
        return row["seconds_to_target"], row["runs_to_target"]

    assert typical(1.0, 2.0, None) == (2.0, 2)
    assert typical(3.0, 1.0, 2.0, None) == (2.5, 3)
    assert typical(1.0, None) == typical(1.0, None, None) == (None, 1)


def row(size: int | str, samples: int | None, **more: Any) -> dict[str, Any]:
    """A size that came to the target at the first step, of which everything is known."""
    known = {"samples_per_second": 1000.0, "peak_memory_mib": 300.0, "steps_to_target": 10, "epochs_to_target": 2.0}
    told = {"seconds_to_target": 1.0, "best": 0.9, "bests": [0.90, 0.91, 0.89], "failed": []}
    return {"batch_size": size, "samples_per_step": samples, **known, **told, **more}


NEVER: dict[str, Any] = {"steps_to_target": None, "epochs_to_target": None, "seconds_to_target": None}
FAILED: dict[str, Any] = {"best": None, "bests": [], "samples_per_second": None, "peak_memory_mib": None, **NEVER}


@pytest.mark.parametrize(
    ("code", "verdict", "rows"),
    [
        ("too_small", "holds", [row(8, 8, **NEVER), row(64, 64, samples_per_second=4000.0)]),
        ("too_small", "partly", [row(8, 8), row(64, 64, samples_per_second=4000.0)]),
        ("too_small", "partly", [row(8, None, **FAILED | {"failed": ["non_finite"]}), row(64, 64), row(128, 128)]),
        ("too_small", "does_not_hold", [row(8, 8), row(64, 64)]),
        ("too_small", "cannot_tell", [row(8, 8, **NEVER), row(64, 64, **NEVER)]),
        ("faster_per_sample", "holds", [row(8, 8), row(64, 64, samples_per_second=4000.0)]),
        ("faster_per_sample", "partly", [row(8, 8), row(16, 16, samples_per_second=4000.0), row(64, 64)]),
        ("faster_per_sample", "does_not_hold", [row(8, 8), row(64, 64)]),
        ("more_memory", "holds", [row(8, 8), row(64, 64, peak_memory_mib=310.0)]),
        ("more_memory", "holds", [row(8, 8), row(16, 16), row(64, None, **FAILED | {"failed": ["oom_host"]})]),
        ("more_memory", "does_not_hold", [row(8, 8), row(64, 64)]),
        ("more_memory", "cannot_tell", [row(8, 8, peak_memory_mib=None), row(64, 64)]),
        ("more_epochs", "holds", [row(8, 8), row(64, 64, epochs_to_target=3.0)]),
        ("more_epochs", "holds", [row(8, 8), row(64, 64, **NEVER)]),
        ("more_epochs", "partly", [row(8, 8), row(64, 64), row(512, 512, **NEVER)]),
        ("more_epochs", "does_not_hold", [row(8, 8), row(64, 64)]),
        ("more_epochs", "cannot_tell", [row(8, 8, **NEVER), row(64, 64, **NEVER)]),
        ("less_accurate", "holds", [row(8, 8), row(64, 64, best=0.5, bests=[0.49, 0.50, 0.51])]),
        ("less_accurate", "cannot_tell", [row(8, 8), row(64, 64, best=0.89, bests=[0.88, 0.89, 0.91])]),
        ("less_accurate", "cannot_tell", [row(8, 8, bests=[0.9]), row(64, 64, best=0.5, bests=[0.5])]),
        ("less_accurate", "does_not_hold", [row(8, 8), row(64, 64, best=0.95)]),
        ("two_bests", "holds", [row(8, 8), row(64, 64, best=0.5, bests=[0.49, 0.5, 0.51], seconds_to_target=0.5)]),
        (
            "two_bests",
            "cannot_tell",
            [row(8, 8), row(64, 64, best=0.89, bests=[0.88, 0.89, 0.91], seconds_to_target=0.5)],
        ),
        ("two_bests", "does_not_hold", [row(8, 8), row(64, 64, best=0.8, seconds_to_target=2.0)]),
        ("two_bests", "does_not_hold", [row(8, 8), row(64, 64, seconds_to_target=0.5)]),
    ],
)
def test_what_is_said_of_batch_sizes_holds_or_fails_by_the_studys_own_numbers(
    code: str, verdict: str, rows: list[dict[str, Any]]
) -> None:
    for ordered in (rows, rows[::-1]):
        told = {each["code"]: each for each in sayings.weighed(ordered, Direction.MAX, "val_accuracy")}
        assert (told[code]["verdict"], len(told)) == (verdict, 6), told[code]
        assert told[code]["because"]


def test_of_one_size_nothing_is_said() -> None:
    assert sayings.weighed([row(8, 8)], Direction.MAX, "val_accuracy") == []


def drawn(kind: str, report: dict[str, Any], form: Literal["png", "svg"] = "png", title: str = "") -> bytes:
    return make(ReportPicture(kind, report, title, form))


@pytest.mark.parametrize("form", ["png", "svg"])
def test_every_kind_has_a_picture_and_a_text(form: Literal["png", "svg"]) -> None:
    losses = runs([1.9, 1.0, 0.2, 0.5, 3.0], [0.01, 0.01, 0.01, 0.05, 0.05])
    asked = searching()
    tried = [Tried(each, "complete", each["rate"]) for each in search.suggest(asked, Direction.MIN, [], 5)]
    found = [Outcome("j", each.parameters, 0, each.value) for each in tried]
    reports = {
        "lr_range": lr_range.as_dict(found_in(losses)),
        "batch_size": sizes("linear"),
        "grid": grid.report("m", Direction.MIN, outcomes()),
        "search": search.report(asked, Direction.MIN, found, tried, 10, 10),
    }
    for kind, report in reports.items():
        content = drawn(kind, report, form, "cost $x^$ <b>")
        assert content.startswith(b"\x89PNG" if form == "png" else b"<?xml"), kind
        for width in (60, 80, 120):
            assert all(len(line) <= width for line in texts.text(kind, report, width).splitlines()), kind


def test_sizes_stand_in_order_beside_their_axis_where_one_of_them_is_a_word() -> None:
    sizes = [128, 8, "full", 16]
    found = [Outcome("j", {"size": size, "layers": [size]}, 0, place / 4) for place, size in enumerate(sizes)]
    picture = ElementTree.fromstring(drawn("grid", grid.report("m", Direction.MIN, found), "svg"))
    heights = {"".join(text.itertext()): float(text.get("y", "nan")) for text in picture.iter(f"{SVG}text")}
    told = [heights[str(size)] for size in (8, 16, 128, "full")]
    assert told == sorted(told, reverse=True), "y grows downwards"


def test_a_report_of_nothing_can_be_drawn_too() -> None:
    empty = found_in(np.full((5, 2, STEPS), np.nan))
    assert drawn("lr_range", lr_range.as_dict(empty))
    assert "no clear answer" in texts.text("lr_range", lr_range.as_dict(empty), 80)
    assert drawn("grid", grid.report("m", Direction.MIN, []))
    nothing = batch_size.report(
        {"metric": "val_loss", "value": 1}, Direction.MIN, "fixed", [BatchRun(None, 8, 0.1, None, failed="error")]
    )
    assert drawn("batch_size", nothing)
    assert "No batch size reached" in texts.text("batch_size", nothing, 80)
