"""Intervals: equal to SciPy's, and right about as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from service import statistics
from service.compare.verdicts import CONFIDENCE, Side, judge
from service.curves.rollups import Floats
from service.states import Direction
from service.statistics import Mean

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


@pytest.mark.parametrize("seeds", [3, 5, 20])
@pytest.mark.parametrize("kind", ["normal", "lognormal"])
def test_of_a_thousand_pairs_alike_at_most_one_in_twenty_gets_a_verdict(seeds: int, kind: str) -> None:
    chance = np.random.default_rng([SEED, seeds])
    drawn = chance.normal(size=(1000, 2, seeds))
    drawn = drawn if kind == "normal" else np.exp(drawn)
    told = [judge(side("a", a), side("b", b), Direction.MIN).verdict for a, b in drawn]
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


def test_the_seeds_that_are_said_to_be_needed_do_settle_it() -> None:
    needed = statistics.samples_needed(1.0, (1.0, 1.0), CONFIDENCE, 1000)
    assert needed is not None
    error = (1 / needed) ** 0.5
    means = Mean(1.0, error, needed - 1), Mean(0.0, error, needed - 1)
    assert statistics.difference(*means, CONFIDENCE)[1] > 0
    assert statistics.samples_needed(1e-6, (1.0, 1.0), CONFIDENCE, 1000) is None


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
