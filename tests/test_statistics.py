"""Intervals: equal to SciPy's, and right about as often as they say."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from service import statistics
from service.compare.verdicts import CONFIDENCE, Side, by_chance, judge
from service.curves.rollups import Floats
from service.states import Direction

SEED = 2026


def side(name: str, bests: Floats) -> Side:
    return Side(name, bests, None)


def of_curve(name: str, values: Floats) -> Side:
    return Side(name, values[-1:], statistics.mean_of_series(values))


@given(probability=st.floats(0.001, 0.999), freedom=st.floats(1, 1e4))
def test_quantiles_of_t_are_scipys(probability: float, freedom: float) -> None:
    expected = stats.t.ppf(probability, freedom)
    assert statistics.t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-7, abs=1e-9)


samples = st.integers(2, 30).flatmap(
    lambda count: st.lists(st.floats(-1e3, 1e3), min_size=count, max_size=count).map(np.array)
)


@given(samples)
def test_a_band_by_t_is_scipys_interval(values: Floats) -> None:
    band = statistics.band(values[:, None])
    if band.method == "student_t" and values.std() > 1e-6:
        assert band.lower is not None
        assert band.upper is not None
        low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
        assert [band.lower[0], band.upper[0]] == pytest.approx([low, high], rel=1e-6, abs=1e-6)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=30).map(np.array))
def test_skewness_is_scipys(values: Floats) -> None:
    if values.std() > max(1e-6, 1e-3 * np.abs(values).max()):
        assert statistics.skewness(values) == pytest.approx(stats.skew(values, bias=False), rel=1e-6, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(samples, samples)
def test_a_difference_is_welchs_as_scipy_has_it(first: Floats, second: Floats) -> None:
    if first.std() > 1e-6 and second.std() > 1e-6:
        means = statistics.mean_of_samples(first), statistics.mean_of_samples(second)
        apart, low, high = statistics.difference(*means, 0.95)
        expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert apart == pytest.approx(first.mean() - second.mean(), abs=1e-9)
        # The degrees of freedom are rounded down a little.
        assert low <= expected.low + 1e-9 * abs(expected.low)
        assert high - low == pytest.approx(expected.high - expected.low, rel=0.15)


@settings(max_examples=15, deadline=None)
@given(samples, samples)
def test_of_unequal_numbers_the_interval_is_the_wider_of_welchs_and_students(first: Floats, second: Floats) -> None:
    if len(first) != len(second) and first.std() > 1e-3 and second.std() > 1e-3:
        _, low, high = statistics.difference_of_samples(first, second, 0.95)
        student = stats.ttest_ind(first, second).confidence_interval(0.95)
        welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        wider = max(student.high - student.low, welch.high - welch.low)
        assert wider * (1 - 1e-9) <= high - low <= wider * 1.15


def test_the_bootstrap_is_like_scipys_where_samples_are_many_and_wider_where_they_are_few() -> None:
    values = np.random.default_rng(SEED).exponential(size=60)
    low, high = statistics.bootstrap_interval(values[:, None], 0.95)
    other = stats.bootstrap((values,), np.mean, confidence_level=0.95, method="percentile", rng=1, n_resamples=2000)
    assert [low[0], high[0]] == pytest.approx([other.confidence_interval.low, other.confidence_interval.high], rel=0.05)
    few = values[:5]
    low, high = statistics.bootstrap_interval(few[:, None], 0.95)
    other = stats.bootstrap((few,), np.mean, confidence_level=0.95, method="percentile", rng=1, n_resamples=2000)
    assert high[0] - low[0] > other.confidence_interval.high - other.confidence_interval.low


def test_small_and_skewed_samples_are_told_by_the_bootstrap() -> None:
    skewed = np.array([[1.0], [1.1], [1.2], [9.0]])
    assert statistics.band(skewed).method == "bootstrap"
    assert statistics.band(skewed[:3]).method == "student_t"
    assert statistics.band(np.concatenate([skewed] * 3)).method == "student_t"
    alone = statistics.band(skewed[:1])
    assert (alone.lower, alone.upper, alone.method) == (None, None, None)


@pytest.mark.parametrize("seeds", [(3, 3), (5, 5), (20, 20), (2, 20), (20, 3)])
@pytest.mark.parametrize("kind", ["normal", "lognormal"])
def test_of_a_thousand_pairs_alike_at_most_one_in_twenty_gets_a_verdict(seeds: tuple[int, int], kind: str) -> None:
    chance = np.random.default_rng([*seeds, SEED])
    drawn = chance.normal(size=(1000, sum(seeds)))
    drawn = drawn if kind == "normal" else np.exp(drawn)
    told = [judge(side("a", row[: seeds[0]]), side("b", row[seeds[0] :]), Direction.MIN).verdict for row in drawn]
    assert sum(verdict != "cannot_tell" for verdict in told) <= 50


def test_a_difference_of_one_deviation_is_found_with_twenty_seeds_four_times_in_five() -> None:
    chance = np.random.default_rng(SEED)
    told = [
        judge(side("a", chance.normal(0, 1, 20)), side("b", chance.normal(1, 1, 20)), Direction.MIN).verdict
        for _ in range(1000)
    ]
    assert told.count("better") >= 800
    assert told.count("worse") <= 2


def test_of_a_thousand_pairs_of_curves_alike_at_most_one_in_twenty_gets_a_verdict() -> None:
    chance = np.random.default_rng(SEED)
    for memory in (0.0, 0.5):
        told = []
        for _ in range(1000):
            noise = chance.normal(size=(2, 250))
            for place in range(1, 250):
                noise[:, place] += memory * noise[:, place - 1]
            told.append(judge(of_curve("a", noise[0]), of_curve("b", noise[1]), Direction.MIN).verdict)
        assert sum(verdict != "cannot_tell" for verdict in told) <= 50, memory


@pytest.mark.parametrize("deviations", [(1.0, 1.0), (1.0, 0.1)])
def test_so_many_seeds_as_are_said_to_be_needed_settle_it_in_four_cases_of_five(
    deviations: tuple[float, float],
) -> None:
    needed = statistics.samples_needed(1.0, deviations, CONFIDENCE, 1000)
    assert needed is not None
    chance = np.random.default_rng(SEED)
    drawn = [chance.normal(mean, spread, (1000, needed)) for mean, spread in zip((0, 1), deviations, strict=True)]
    for count, least, most in ((needed, 760, 900), (needed // 2, 0, 700)):
        told = [
            judge(side("a", a[:count]), side("b", b[:count]), Direction.MIN).verdict
            for a, b in zip(*drawn, strict=True)
        ]
        assert least <= told.count("better") <= most, count


def test_what_no_number_of_seeds_can_tell_has_none() -> None:
    assert statistics.samples_needed(1e-6, (1.0, 1.0), CONFIDENCE, 1000) is None
    assert statistics.samples_needed(0.0, (1.0, 1.0), CONFIDENCE, 1000) is None
    assert statistics.samples_needed(1e-300, (1e300, 1.0), CONFIDENCE, 1000) is None
    assert statistics.samples_needed(1.0, (np.inf, 1.0), CONFIDENCE, 1000) is None
    assert statistics.samples_needed(1e300, (1.0, 0.0), CONFIDENCE, 1000) == 2


def test_a_verdict_is_about_the_first_and_minds_the_direction() -> None:
    low, high = np.array([1.0, 1.1, 0.9, 1.05]), np.array([2.0, 2.1, 1.9, 2.05])
    less = judge(side("a", low), side("b", high), Direction.MIN)
    assert (less.verdict, less.basis, less.more_seeds_needed) == ("better", "seeds", None)
    assert less.difference == pytest.approx(-1)
    assert less.interval is not None
    assert less.interval[0] < -1 < less.interval[1] < 0
    assert judge(side("a", low), side("b", high), Direction.MAX).verdict == "worse"
    unclear = judge(side("a", low[:2]), side("b", low[2:]), Direction.MIN)
    assert unclear.verdict == "cannot_tell"
    assert unclear.more_seeds_needed


@pytest.mark.parametrize("value", [0.1, 0.7, 0.9722222222222222])
def test_equal_values_are_equal_however_many_there_are_of_them(value: float) -> None:
    """The means of three and of five times 0.1 differ in their last digit, and so do their deviations from 0."""
    three, five = np.full(3, value), np.full(5, value)
    assert judge(side("a", three), side("b", five), Direction.MIN).verdict == "cannot_tell"
    assert judge(side("a", three), side("b", 2 * three), Direction.MIN).verdict == "cannot_tell"
    assert judge(of_curve("a", np.full(8, value)), of_curve("b", np.full(13, value)), Direction.MIN).difference == 0
    assert statistics.mean_of_samples(three).error == 0


def test_runs_that_all_came_to_the_same_prove_little_when_they_are_few() -> None:
    two = judge(side("a", np.array([1.0, 1.0])), side("b", np.array([2.0, 2.0])), Direction.MIN)
    assert (two.verdict, two.more_seeds_needed) == ("cannot_tell", 2)
    assert judge(side("a", np.ones(4)), side("b", np.full(4, 2.0)), Direction.MIN).verdict == "better"
    assert judge(side("a", np.ones(9)), side("b", np.ones(9)), Direction.MIN).verdict == "cannot_tell"


def test_one_run_each_is_compared_by_its_end() -> None:
    chance = np.random.default_rng(SEED)
    near, far = chance.normal(1, 0.1, 100), chance.normal(2, 0.1, 100)
    told = judge(of_curve("a", near), of_curve("b", far), Direction.MIN)
    assert (told.verdict, told.basis) == ("better", "tail")
    unknown = judge(side("a", near[:1]), side("b", far[:1]), Direction.MIN)
    assert (unknown.verdict, unknown.interval, unknown.more_seeds_needed) == ("cannot_tell", None, 2)
    nothing = judge(side("a", near[:0]), side("b", far), Direction.MIN)
    assert (nothing.verdict, nothing.difference, nothing.more_seeds_needed) == ("cannot_tell", None, None)


def test_a_reader_is_told_when_chance_alone_would_tell_some_of_many_pairs_apart() -> None:
    chance = np.random.default_rng(SEED)
    alike = [side(str(number), chance.normal(size=5)) for number in range(20)]
    pairs = list(combinations(alike, 2))
    judged = [judge(a, b, Direction.MIN) for a, b in pairs]
    assert any(each.verdict != "cannot_tell" for each in judged), "it does happen"
    told = by_chance(judged) or ""
    assert told.startswith("each of 190 pairs")
    assert told.endswith("about 7 better or worse")
    decided, undecided = (
        [each for each in judged if (each.verdict == "cannot_tell") is open_still] for open_still in (False, True)
    )
    assert by_chance(decided[:14]) is None
    assert by_chance(undecided) is None
