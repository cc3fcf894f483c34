"""Comparing runs: what differs, who is best, and what the reader must know to believe it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from service.api import compared
from service.compare import Comparison, Entry, compare, differing_parameters, mean_height, ranked, tail_mean
from service.curves import Curve, Summary, direction
from service.curves.axes import Axis
from service.curves.rollups import Floats
from service.errors import InvalidInput
from service.states import Direction


def curve_of(values: Floats) -> Curve:
    steps = np.arange(1, len(values) + 1)
    weight = np.isfinite(values).astype(np.int64)
    return Curve(steps, steps.astype(np.float64), values, values, values, weight, len(values), downsampled=False)


def entry_of(
    run_id: str, values: list[float], metric: str = "val_loss", parameters: dict[str, Any] | None = None, **facts: Any
) -> Entry:
    """A run that logged these values at the steps 1, 2, 3 and so on."""
    array = np.array(values, np.float64)
    places = np.flatnonzero(np.isfinite(array))
    low, high = (int(places[pick(array[places])]) if len(places) else None for pick in (np.argmin, np.argmax))
    summary = Summary(
        1, 1, metric, direction(metric), len(values), len(values) - len(places), values[0], 1, values[-1], len(values),
        None if low is None else values[low], None if low is None else low + 1,
        None if high is None else values[high], None if high is None else high + 1,
    )  # fmt: skip
    curve = curve_of(array)
    return Entry(run_id, f"run {run_id}", parameters or {}, {metric}, summary, curve, curve.step, **facts)


def codes(comparison: Comparison) -> list[str]:
    return [warning["code"] for warning in comparison.warnings]


def test_runs_are_ranked_by_their_best_value_in_the_order_given() -> None:
    entries = [entry_of("a", [3, 2, 2.5]), entry_of("b", [3, 1, 4]), entry_of("c", [9, 2]), entry_of("d", [5])]
    comparison = compare("val_loss", Axis.STEP, entries)
    assert [(run.run_id, run.rank) for run in comparison.runs] == [("a", 2), ("b", 1), ("c", 2), ("d", 4)]
    assert (comparison.metric, comparison.direction, comparison.x) == ("val_loss", Direction.MIN, Axis.STEP)
    worst_first = compare(
        "val_accuracy", Axis.STEP, [entry_of(e.run_id, list(e.curve.value), "val_accuracy") for e in entries if e.curve]
    )
    assert [run.rank for run in worst_first.runs] == [4, 3, 1, 2]


def test_a_run_of_nan_alone_or_without_the_metric_comes_last() -> None:
    entries = [entry_of("a", [np.nan, np.nan]), entry_of("b", [7.0]), Entry("c", "run c", {}, {"train_loss"})]
    comparison = compare("val_loss", Axis.STEP, entries)
    assert [run.rank for run in comparison.runs] == [2, 1, 2]
    nan, _, missing = comparison.runs
    assert (missing.curve, missing.summary, missing.x, missing.y) == (None, None, None, None)
    assert nan.summary is not None
    assert np.isnan(nan.summary.last or 0)
    assert nan.summary.best is nan.summary.best_at is nan.summary.tail_mean is nan.summary.area is None
    assert codes(comparison) == ["runs_without_metric", "non_finite_values"]
    assert comparison.warnings[0]["message"] == "1 of 3 runs have no val_loss: c"


def test_a_metric_without_a_direction_is_not_ranked() -> None:
    comparison = compare(
        "grad_norm", Axis.STEP, [entry_of("a", [1.0], "grad_norm"), entry_of("b", [2.0], "grad_norm")], target=1.5
    )
    assert [run.rank for run in comparison.runs] == [None, None]
    assert comparison.runs[0].summary is not None
    assert comparison.runs[0].summary.to_target is comparison.runs[0].summary.best is None
    assert codes(comparison) == ["no_direction"]
    assert ranked([None, None], Direction.MIN) == [None, None]


def test_the_summary_is_in_the_units_of_the_metric_and_of_x() -> None:
    entry = entry_of("a", [4.0, 3.0, 1.0, 2.0, *[2.5] * 17])
    assert entry.curve is not None
    entry = Entry("a", "a", {}, {"val_loss"}, entry.summary, entry.curve, entry.curve.step * 64)
    [run] = compare("val_loss", Axis.SAMPLES, [entry], target=3.0).runs
    assert run.summary is not None
    assert run.summary.last == 2.5
    assert (run.summary.best, run.summary.best_at) == (1.0, 3 * 64)
    assert run.summary.to_target == 2 * 64
    assert run.summary.tail_mean == 2.5
    assert run.summary.area == pytest.approx((3.5 + 2 + 1.5 + 2.25 + 2.5 * 16) / 20)
    never = compare("val_loss", Axis.SAMPLES, [entry], target=0.5).runs[0].summary
    assert never is not None
    assert never.to_target is None


def test_a_target_is_reached_from_below_when_more_is_better() -> None:
    [run] = compare(
        "val_accuracy", Axis.STEP, [entry_of("a", [0.1, np.inf, 0.5, 0.9], "val_accuracy")], target=0.5
    ).runs
    assert run.summary is not None
    assert run.summary.to_target == 3


def test_a_dip_inside_a_bucket_reaches_the_target_and_points_shown_beside_buckets_count_once() -> None:
    curve = Curve(
        step=np.array([1, 8, 24, 30, 40]),
        time=np.array([0.0, 1, 2, 3, 4]),
        value=np.array([9.0, 5, 4, 0.5, 3]),
        min=np.array([9.0, 4, 0.5, 0.5, 3]),
        max=np.array([9.0, 9, 6, 0.5, 3]),
        weight=np.array([0, 16, 16, 0, 16]),
        count=48,
        downsampled=True,
    )  # fmt: skip
    summary = Summary(1, 1, "val_loss", Direction.MIN, 48, 0, 9.0, 1, 3.0, 48, 0.5, 30, 9.0, 1)
    [run] = compare("val_loss", Axis.STEP, [Entry("a", "a", {}, [], summary, curve, curve.step)], target=1.0).runs
    assert run.summary is not None
    assert run.summary.to_target == 24
    assert run.summary.best_at == 30
    assert run.summary.tail_mean == 3
    assert run.summary.area == (4.5 * 16 + 3.5 * 16) / 32


def test_smoothing_changes_the_curve_shown_and_no_number() -> None:
    entries = [entry_of("a", [4.0, 2.0, 4.0, 2.0])]
    plain, smooth = compare("val_loss", Axis.STEP, entries), compare("val_loss", Axis.STEP, entries, smoothing=0.9)
    assert smooth.runs[0].summary == plain.runs[0].summary
    assert plain.runs[0].y is not None
    assert smooth.runs[0].y is not None
    assert plain.runs[0].y.tolist() == [4, 2, 4, 2]
    assert 2.9 < smooth.runs[0].y[-1] < 3


def test_smoothing_reaches_the_curves_of_groups_and_no_number_of_theirs() -> None:
    entries = [seeded(0.1, seed, [4.0 + seed, 2.0 + seed, 4.0 + seed, 2.0 + seed]) for seed in (0, 1)]
    plain, smooth = (
        compare("val_loss", Axis.STEP, entries, smoothing=weight, group_by="learning_rate").groups[0].group
        for weight in (0.0, 0.9)
    )
    assert smooth.summary == plain.summary
    assert plain.curve is not None
    assert smooth.curve is not None
    assert plain.curve.band.mean == pytest.approx([4.5, 2.5, 4.5, 2.5])
    assert smooth.curve.band.mean[-1] == pytest.approx(3.45, abs=0.1)


def test_differing_parameters_come_with_hyperparameters_first_and_in_the_order_of_the_spec() -> None:
    shared = {"task": "classification", "dataset": "digits@1"}
    first = {
        **shared, "model.type": "mlp", "model.hidden_sizes": [64], "hyperparameters.learning_rate": 0.1,
        "hyperparameters.batch_size": 64, "resources.threads": 1, "hyperparameters.epochs": 10,
    }  # fmt: skip
    second = {
        **shared, "model.type": "linear", "hyperparameters.learning_rate": 0.01, "hyperparameters.batch_size": "full",
        "resources.threads": 2, "hyperparameters.epochs": 10.0,
    }  # fmt: skip
    comparison = compare(
        "val_loss", Axis.STEP, [entry_of("a", [1.0], parameters=first), entry_of("b", [2.0], parameters=second)]
    )
    assert comparison.differing_parameters == [
        "hyperparameters.learning_rate",
        "hyperparameters.batch_size",
        "model.type",
        "model.hidden_sizes",
        "resources.threads",
    ]
    assert comparison.runs[1].parameters == {
        "hyperparameters.learning_rate": 0.01,
        "hyperparameters.batch_size": "full",
        "model.type": "linear",
        "resources.threads": 2,
    }


def test_a_missing_parameter_and_true_for_one_are_differences() -> None:
    assert differing_parameters([{"a": None, "b": 1, "c": 1}, {"b": True, "c": 1.0}]) == ["a", "b"]
    assert differing_parameters([{"a": 1}]) == differing_parameters([]) == []


def test_ranking_by_training_loss_is_warned_of_where_a_validation_metric_exists() -> None:
    entries = [entry_of("a", [1.0], "train_loss"), entry_of("b", [2.0], "train_loss")]
    assert codes(compare("train_loss", Axis.STEP, entries)) == []
    entries.append(Entry("c", "c", {}, ["val_f1", "val_loss"]))
    [warning, _] = compare("train_loss", Axis.STEP, entries).warnings
    assert warning["code"] == "ranked_by_training_loss"
    assert "compare by val_loss" in warning["message"]
    assert "ranked_by_training_loss" not in codes(compare("val_loss", Axis.STEP, entries))


def test_what_makes_runs_hard_to_compare_is_said() -> None:
    def warned(first: Entry, second: Entry, axis: Axis = Axis.STEP) -> list[str]:
        return codes(compare("val_loss", axis, [first, second]))

    plain = entry_of("a", [1.0, 2.0], parameters={"dataset": "digits@1", "hyperparameters.loss": "mse"})
    assert warned(plain, plain) == []
    assert warned(plain, entry_of("b", [1.0, 2.0], parameters={**plain.parameters, "dataset": "wine@1"})) == [
        "different_data"
    ]
    other_loss = entry_of("b", [1.0, 2.0], parameters={**plain.parameters, "hyperparameters.loss": "l1"})
    assert warned(plain, other_loss) == ["different_losses"]
    assert warned(plain, entry_of("b", [1.0, 2.0], parameters=dict(plain.parameters), running=True)) == [
        "still_running"
    ]
    longer = entry_of("b", [1.0] * 5, parameters=dict(plain.parameters))
    [warning] = compare("val_loss", Axis.STEP, [plain, longer]).warnings
    assert warning == {
        "code": "different_lengths",
        "message": "the curves end between 2 and 5 steps; x=epoch or x=samples sets them side by side",
    }


def test_ends_of_curves_are_told_in_the_unit_of_x() -> None:
    for axis, unit in ((Axis.TIME, "seconds"), (Axis.GPU_SECONDS, "GPU seconds"), (Axis.SAMPLES, "samples")):
        entries = [entry_of("a", [1.0, 2.0]), entry_of("b", [1.0] * 5)]
        [warning] = compare("val_loss", axis, entries).warnings
        assert warning["message"] == f"the curves end between 2 and 5 {unit}"


def seeded(rate: float, seed: int, values: list[float]) -> Entry:
    parameters = {"hyperparameters.learning_rate": rate, "hyperparameters.seed": seed}
    return entry_of(f"{rate}-{seed}", values, parameters=parameters)


def test_seeds_of_one_setting_become_one_curve_with_a_band() -> None:
    entries = [
        seeded(0.1, 0, [3, 2, 1]), seeded(0.01, 0, [4, 3, 2]), seeded(0.1, 1, [3.2, 2.2, 1.4]),
        seeded(0.01, 1, [4, 3.1, 2.2]), seeded(0.1, 2, [2.9, 2.1, 1.2]),
    ]  # fmt: skip
    found = compare("val_loss", Axis.STEP, entries, group_by="learning_rate", target=1.3)
    assert found.grouped_by == "hyperparameters.learning_rate"
    assert [each.group.key for each in found.groups] == [0.01, 0.1]
    slow, fast = (each.group for each in found.groups)
    assert [entry.run_id for entry in fast.entries] == ["0.1-0", "0.1-1", "0.1-2"]
    assert [each.rank for each in found.groups] == [2, 1]
    assert fast.curve is not None
    assert fast.curve.x.tolist() == [1, 2, 3]
    assert fast.curve.band.mean == pytest.approx([9.1 / 3, 2.1, 1.2])
    assert fast.summary.best == pytest.approx(1.2)
    assert (fast.summary.runs, fast.summary.reached, fast.summary.to_target) == (3, 2, None)
    assert slow.summary.reached == 0
    [verdict] = found.verdicts
    assert (verdict.a, verdict.b, verdict.basis) == (0.01, 0.1, "seeds")
    assert verdict.difference == pytest.approx(2.1 - 1.2)
    assert codes(found) == []


def test_a_group_with_a_run_that_came_to_nothing_is_not_judged_by_the_others() -> None:
    entries = [seeded(0.1, seed, [3.0, 2.0 + seed / 10]) for seed in range(4)]
    entries += [seeded(1.0, seed, [3.0, 1.0 + seed / 10]) for seed in range(3)] + [seeded(1.0, 3, [np.nan, np.nan])]
    found = compare("val_loss", Axis.STEP, entries, group_by="learning_rate")
    assert [each.group.summary.best is None for each in found.groups] == [False, True]
    assert [each.rank for each in found.groups] == [1, 2]
    [verdict] = found.verdicts
    assert (verdict.verdict, verdict.difference, verdict.more_seeds_needed) == ("cannot_tell", None, None)
    assert compare("val_loss", Axis.STEP, entries[:-1], group_by="learning_rate").verdicts[0].verdict == "worse"


def test_groups_that_came_to_the_same_have_no_deviation_and_many_pairs_a_caution() -> None:
    entries = [seeded(rate, seed, [3.0, 0.1 * rate]) for rate in range(1, 9) for seed in range(4)]
    found = compare("val_loss", Axis.STEP, entries, group_by="learning_rate")
    assert {each.group.summary.deviation for each in found.groups} == {0.0}
    assert "many_pairs" in codes(found)
    assert "many_pairs" not in codes(compare("val_loss", Axis.STEP, entries[:12], group_by="learning_rate"))


def test_curves_logged_at_other_steps_are_averaged_where_all_of_them_are() -> None:
    first, second = seeded(0.1, 0, [4.0, 3.0, 2.0, 1.0]), seeded(0.1, 1, [4.0, 2.0])
    assert second.curve is not None
    second = Entry(
        "b", "b", second.parameters, second.metrics, second.summary, second.curve, np.array([2.0, 3.0])
    )  # fmt: skip
    [ranked] = compare("val_loss", Axis.EPOCH, [first, second], group_by="learning_rate").groups
    curve = ranked.group.curve
    assert curve is not None
    assert curve.x.tolist() == [2, 3]
    assert curve.band.mean.tolist() == [3.5, 2]
    apart = Entry("b", "b", second.parameters, second.metrics, second.summary, second.curve, np.array([8.0, 9.0]))
    found = compare("val_loss", Axis.EPOCH, [first, apart], group_by="learning_rate")
    assert found.groups[0].group.curve is None
    assert "no_common_x" in codes(found)


def test_curves_too_short_for_an_interval_still_tell_how_far_apart_they_ended() -> None:
    runs = [seeded(0.1, 0, [4.0, 3.0]), seeded(0.01, 0, [4.0, 2.5]), seeded(0.01, 1, [4.0, 1.5])]
    [pair, *_] = compare("val_loss", Axis.STEP, runs).verdicts
    assert (pair.difference, pair.interval, pair.verdict, pair.more_seeds_needed) == (0.5, None, "cannot_tell", 2)
    [groups] = compare("val_loss", Axis.STEP, runs, group_by="learning_rate").verdicts
    assert (groups.a, groups.b, groups.difference, groups.interval) == (0.01, 0.1, -1.0, None)
    [empty] = compare("val_loss", Axis.STEP, [runs[0], seeded(1.0, 0, [np.nan])]).verdicts
    assert (empty.difference, empty.verdict) == (None, "cannot_tell")


def test_runs_are_called_by_what_differs_and_by_their_names_where_that_is_the_same() -> None:
    legends = [compared.text(compare("val_loss", Axis.STEP, runs), 100) for runs in (
        [seeded(0.1, 0, [2.0, 1.0]), seeded(0.01, 0, [2.0, 1.5])],
        [entry_of(name, [2.0, 1.0], parameters={"hyperparameters.seed": 0}) for name in ("first", "second")],
    )]  # fmt: skip
    assert "* learning_rate=0.1   o learning_rate=0.01" in legends[0]
    assert "* run first   o run second" in legends[1]
    rates = [seeded(10 ** (-1 / 3), 0, [2.0, 1.0]), seeded(10 ** (-2 / 3), 0, [2.0, 1.5])]
    assert "* learning_rate=0.46416   o learning_rate=0.21544" in compared.text(
        compare("val_loss", Axis.STEP, rates), 100
    )
    assert "2 more seeds of each would show what is chance" in legends[0].replace("\n  ", " ")


def test_a_group_of_runs_that_differ_in_more_than_chance_is_warned_of() -> None:
    entries = [seeded(0.1, 0, [1.0]), seeded(0.1, 1, [1.0])]
    mixed = Entry("c", "c", {**entries[0].parameters, "hyperparameters.batch_size": 8}, {"val_loss"})
    found = compare("val_loss", Axis.STEP, [*entries, mixed], group_by="learning_rate")
    assert "different_within_groups" in codes(found)


def test_a_text_tells_first_how_the_best_compares_with_each_of_the_others_and_how_many_pairs_are_left_out() -> None:
    entries = [seeded(rate, seed, [5.0, abs(rate - 4) + seed / 9]) for rate in range(1, 7) for seed in (0, 1)]
    text = compared.text(compare("val_loss", Axis.STEP, entries, group_by="learning_rate"), 200)
    told = [line for line in text.splitlines() if line.startswith("learning_rate=")]
    assert len(told) == 12
    assert all("learning_rate=4" in line for line in told[:5])
    assert not any("learning_rate=4" in line for line in told[5:])
    assert "… 3 further pairs" in text


def test_the_same_number_makes_one_group_however_it_was_written() -> None:
    given: list[Any] = [1, 1.0, True, "1", [1], [1]]
    entries = [entry_of(str(place), [1.0], parameters={"rate": value}) for place, value in enumerate(given)]
    groups = compare("val_loss", Axis.STEP, entries, group_by="rate").groups
    assert [len(each.group.entries) for each in groups] == [2, 1, 1, 2]


def test_grouping_by_what_no_run_has_or_by_half_a_name_is_refused() -> None:
    entries = [entry_of("a", [1.0], parameters={"model.type": "mlp", "other.type": "x"})]
    for name, message in (("nothing", "no run here"), ("type", "model.type or other.type")):
        with pytest.raises(InvalidInput) as caught:
            compare("val_loss", Axis.STEP, entries, group_by=name)
        [problem] = caught.value.problems
        assert (problem.param, problem.code) == ("group_by", "unknown_parameter")
        assert message in problem.message


def test_a_target_is_told_along_every_axis() -> None:
    entry = entry_of("a", [4.0, 3.0, 1.0])
    assert entry.curve is not None
    axes: dict[Axis, Any] = {
        Axis.STEP: entry.curve.step,
        Axis.SAMPLES: entry.curve.step * 64,
        Axis.TIME: entry.curve.time / 2,
    }
    entry = Entry("a", "a", {}, {"val_loss"}, entry.summary, entry.curve, entry.curve.step, axes=axes)
    [run] = compare("val_loss", Axis.STEP, [entry], target=3.0).runs
    assert run.summary is not None
    assert run.summary.reached == {"step": 2, "samples": 128, "time": 1.0}


def test_nothing_compares_to_nothing() -> None:
    comparison = compare("val_loss", Axis.EPOCH, [])
    assert (comparison.runs, comparison.differing_parameters, comparison.warnings) == ([], [], [])


@given(values=st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=60))
def test_the_tail_is_the_last_tenth_and_at_least_one_point(values: list[float]) -> None:
    finite = [value for value in values if np.isfinite(value)]
    told = tail_mean(curve_of(np.array(values)))
    if not finite:
        assert told is None
    else:
        size = max(1, -(-len(finite) // 10))
        assert told == pytest.approx(np.mean(finite[-size:]), rel=1e-9, abs=1e-6)


@given(points=st.lists(st.tuples(st.integers(0, 100), st.floats(-1e6, 1e6)), min_size=1, max_size=30))
def test_the_area_is_the_trapezoids_mean_height(points: list[tuple[int, float]]) -> None:
    x, y = np.array([x for x, _ in points]), np.array([y for _, y in points])
    order = np.argsort(x, kind="stable")
    length = x.max() - x.min()
    expected = np.trapezoid(y[order], x[order]) / length if length else y.mean()
    assert mean_height(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_the_largest_numbers_do_not_overflow() -> None:
    largest = np.finfo(np.float64).max
    values = np.full(50, largest)
    assert mean_height(np.arange(50), values) == pytest.approx(largest)
    assert tail_mean(curve_of(values)) == pytest.approx(largest)
