"""The curve store: what was logged is read back, in as few points as asked for, after any appends and cuts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import curves, plan
from service.curves import Batch, Curve, PositionMismatch, Summary, rollups
from service.curves.axes import Axis, Counting
from service.curves.rollups import Floats, Integers
from service.curves.smoothing import smooth
from service.database import Database
from service.errors import InvalidInput
from service.spec import JobSpec
from service.states import Direction, Visibility
from service.tables import Point, Project, Rollup, Run, Series, Table, User

RUN, OTHER_RUN = 1, 2


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A real file with two runs and no curve."""
    path: Path = tmp_path_factory.mktemp("curves")
    database = Database(path / "trainbox.db")
    Table.metadata.create_all(database.writer)
    with database.write() as session:
        session.add(User(name="ada", created_at=""))
        session.flush()
        session.add(Project(name="default", owner=None, visibility=Visibility.TEAM, created_at=""))
        session.flush()
        for seq in (RUN, OTHER_RUN):
            session.add(
                Run(
                    seq=seq,
                    id=f"run-{seq:08}",
                    name="",
                    project="default",
                    user="ada",
                    tags={},
                    parameters={},
                    created_at="",
                )
            )
    yield database
    database.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A transaction that is rolled back, so that each test begins without a curve."""
    with Session(database.writer) as session:
        yield session


class Logged:
    """What a run has logged, kept in plain arrays beside the store."""

    def __init__(self, session: Session, metric: str = "train_loss") -> None:
        self.session, self.metric = session, metric
        self.steps: Integers = np.empty(0, np.int64)
        self.values: Floats = np.empty(0)
        self.times: Floats = np.empty(0)

    def append(self, steps: Integers, values: Floats) -> None:
        times = np.arange(len(self.steps), len(self.steps) + len(steps), dtype=np.float64) / 4
        curves.append(self.session, RUN, self.metric, len(self.steps), steps, values, times)
        self.steps = np.concatenate([self.steps, steps])
        self.values = np.concatenate([self.values, values])
        self.times = np.concatenate([self.times, times])

    def cut(self, step: int) -> None:
        curves.cut(self.session, RUN, step)
        kept = int(np.argmax(self.steps > step)) if (self.steps > step).any() else len(self.steps)
        self.steps, self.values, self.times = self.steps[:kept], self.values[:kept], self.times[:kept]

    @property
    def summary(self) -> Summary:
        return curves.find(self.session, [RUN])[RUN][self.metric]

    def read(self, points: int = 1000, from_step: int | None = None, to_step: int | None = None) -> Curve:
        return curves.read(self.session, self.summary, points, from_step, to_step)


def logged(session: Session, values: Floats, steps: Integers | None = None) -> Logged:
    """A curve of these values, at the steps 1, 2, 3 and so on unless others are given."""
    log = Logged(session)
    log.append(np.arange(1, len(values) + 1) if steps is None else steps, values)
    return log


def wild_values(rng: np.random.Generator, count: int, odd_share: float = 0.02) -> Floats:
    values = rng.normal(size=count)
    odd = rng.random(count) < odd_share
    values[odd] = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300], size=odd.sum())
    return values


def check_summary(summary: Summary, log: Logged) -> None:
    finite = log.values[np.isfinite(log.values)]
    told = summary.as_dict()
    assert told["count"] == len(log.values)
    assert summary.non_finite == len(log.values) - len(finite)
    np.testing.assert_equal((told["first"], told["last"]), (log.values[0], log.values[-1]))
    assert (summary.first_step, told["last_step"]) == (log.steps[0], log.steps[-1])
    for name, place in ("min", np.argmin), ("max", np.argmax):
        at = place(finite) if len(finite) else None
        assert told[name] == (None if at is None else finite[at])
        assert told[f"{name}_step"] == (None if at is None else log.steps[np.isfinite(log.values)][at])
    assert (told["best"], told["best_step"]) == (told["min"], told["min_step"])


def check_stored(session: Session, log: Logged) -> None:
    """Points and rollups are what they would be had the kept points been appended at once."""
    series = log.summary.series
    points = session.execute(select(Point).where(Point.series == series).order_by(Point.position)).scalars().all()
    assert [point.position for point in points] == list(range(len(log.steps)))
    np.testing.assert_array_equal([point.step for point in points], log.steps)
    np.testing.assert_array_equal([np.nan if p.value is None else p.value for p in points], log.values)
    np.testing.assert_array_equal([point.time for point in points], log.times)

    everything = rollups.of_points(np.arange(len(log.steps)), log.steps, log.values, log.times)
    expected = {
        (level, number): data
        for level, (first, records) in rollups.extend([rollups.Growth(0, {}, everything)])[0].items()
        for number, data in rollups.blocks(level, first, records)
    }
    rows = session.execute(select(Rollup.level, Rollup.block, Rollup.data).where(Rollup.series == series)).all()
    assert {(level, block) for level, block, _ in rows} == set(expected)
    for level, block, data in rows:
        kept, fresh = (rollups.unpacked(level, [each]) for each in (data, expected[level, block]))
        for name in rollups.RECORD.names or ():
            if name == "mean":
                np.testing.assert_allclose(kept[name], fresh[name], rtol=1e-12, atol=1e-12 * 1e300)
            else:
                np.testing.assert_array_equal(kept[name], fresh[name])


def watched(session: Session) -> list[str]:
    """Every statement that SQLite runs for the session from now on."""
    statements: list[str] = []
    connection: Any = session.connection().connection.driver_connection
    connection.set_trace_callback(statements.append)
    return statements


# Appending and cutting


def test_a_curve_reads_back_exactly_as_it_was_logged(session: Session) -> None:
    values = np.array([0.1, np.nan, np.inf, -np.inf, 5e-324, 1.7976931348623157e308])
    log = logged(session, values, steps=np.array([3, 3, 1, 2**62, -5, 0]))
    curve = log.read()
    np.testing.assert_array_equal(curve.step, log.steps)
    for column in (curve.value, curve.min, curve.max):
        np.testing.assert_array_equal(column, values)
    np.testing.assert_array_equal(curve.time, log.times)
    assert curve.weight.tolist() == [1, 0, 0, 0, 1, 1]
    assert (curve.count, curve.downsampled) == (6, False)
    assert (curve.step.dtype.str, curve.value.dtype.str) == ("<i8", "<f8")


def test_an_append_at_another_position_than_the_end_is_refused_and_writes_nothing(session: Session) -> None:
    log = logged(session, np.ones(5))
    one = np.ones(1)
    for position in (4, 6):
        fitting = Batch("val_loss", 0, np.array([6]), one, one)
        with pytest.raises(PositionMismatch, match=f"begin at position {position}, but the curve holds 5"):
            curves.append_all(session, RUN, [fitting, Batch("train_loss", position, np.array([6]), one, one)])
    with pytest.raises(PositionMismatch):
        curves.append(session, RUN, "val_accuracy", 1, np.array([6]), one, one)
    assert session.scalar(select(func.count()).select_from(Point)) == 5
    assert [series.name for series in session.scalars(select(Series))] == ["train_loss"]
    check_stored(session, log)


def test_several_curves_are_appended_at_once(session: Session) -> None:
    names = ["train_loss", "val_loss", "val_accuracy", "grad_norm", "learning_rate", "samples_per_second"]

    def flush(position: int, count: int) -> None:
        steps = np.arange(position + 1, position + count + 1)
        values = steps.astype(np.float64)
        curves.append_all(session, RUN, [Batch(name, position, steps, values, values) for name in names])

    flush(0, 300)
    flush(300, 1)
    told = curves.summaries(session, [RUN, OTHER_RUN])
    assert list(told) == [RUN]
    assert list(told[RUN]) == names
    assert {summary["count"] for summary in told[RUN].values()} == {301}


def test_the_summary_follows_the_direction_of_the_metric(session: Session) -> None:
    steps, values = np.array([1, 2, 3]), np.array([0.5, 0.75, 0.25])
    for metric in ("val_loss", "val_accuracy", "temperature"):
        curves.append(session, RUN, metric, 0, steps, values, values)
    told = curves.summaries(session, [RUN])[RUN]
    assert told["val_loss"] == {
        "count": 3, "first": 0.5, "last": 0.25, "last_step": 3, "min": 0.25, "min_step": 3, "max": 0.75, "max_step": 2,
        "best": 0.25, "best_step": 3, "direction": "min",
    }  # fmt: skip
    assert (told["val_accuracy"]["best"], told["val_accuracy"]["best_step"]) == (0.75, 2)
    assert (told["temperature"]["best"], told["temperature"]["direction"]) == (None, "none")
    assert curves.direction("val_f1") is Direction.MAX


def test_runs_and_metrics_can_be_picked_out(session: Session) -> None:
    for run in (RUN, OTHER_RUN):
        for metric in ("a", "b"):
            curves.append(session, run, metric, 0, np.array([1]), np.ones(1), np.ones(1))
    found = curves.find(session, [OTHER_RUN, RUN], ["b", "c"])
    assert {run: list(metrics) for run, metrics in found.items()} == {RUN: ["b"], OTHER_RUN: ["b"]}
    assert curves.find(session, [], ["b"]) == curves.find(session, [RUN], []) == {}


def test_a_curve_of_nan_alone_has_no_extremes(session: Session) -> None:
    log = logged(session, np.full(2000, np.nan))
    told = log.summary.as_dict()
    assert np.isnan(told["first"])
    assert np.isnan(told["last"])
    assert told["min"] is told["min_step"] is told["max"] is told["best"] is None
    curve = log.read(100)
    assert 0 < len(curve.step) <= 100
    assert np.isnan(curve.value).all()
    log.append(np.array([2001]), np.array([2.5]))
    assert (log.summary.min, log.summary.min_step) == (2.5, 2001)


def test_an_empty_append_writes_nothing(session: Session) -> None:
    curves.append(session, RUN, "train_loss", 0, np.empty(0, np.int64), np.empty(0), np.empty(0))
    curves.append_all(session, RUN, [])
    assert curves.find(session, [RUN]) == {}


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.one_of(st.integers(1, 40), st.sampled_from([127, 128, 129, 768, 1025, 8193]))),
        st.tuples(st.just("cut"), st.floats(0, 1.1)),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(operations=OPERATIONS, ordered=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_any_appends_and_cuts_leave_what_one_append_would(
    database: Database, operations: list[tuple[str, float]], ordered: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with Session(database.writer) as session:
        log = Logged(session)
        for verb, size in operations:
            if verb == "append":
                after = int(log.steps[-1]) if len(log.steps) else 0
                steps = after + np.cumsum(rng.integers(0 if ordered else -2, 4, int(size)))
                log.append(steps, wild_values(rng, int(size)))
            elif len(log.steps):
                log.cut(int(np.quantile(log.steps, min(size, 1)) * max(size, 1)))
        if len(log.steps) == 0:
            assert curves.find(session, [RUN]) == {}
            assert session.scalar(select(func.count()).select_from(Point)) == 0
            assert session.scalar(select(func.count()).select_from(Rollup)) == 0
        else:
            check_summary(log.summary, log)
            check_stored(session, log)


def test_a_cut_ends_before_the_first_point_beyond_the_step_in_order_of_logging(session: Session) -> None:
    steps = np.concatenate([np.arange(1, 501), [900], np.arange(501, 1001)])
    log = logged(session, np.zeros(len(steps)), steps)
    log.cut(800)
    assert log.summary.count == 500
    check_stored(session, log)


@pytest.mark.parametrize("kept", [1, 15, 16, 17, 128, 129, 768, 769, 1024, 6144, 9999])
def test_a_cut_leaves_nothing_behind_wherever_blocks_and_levels_end(session: Session, kept: int) -> None:
    log = logged(session, wild_values(np.random.default_rng(kept), 10_000))
    log.cut(kept)
    check_summary(log.summary, log)
    check_stored(session, log)


def test_a_cut_reaches_every_curve_of_the_run_and_no_other(session: Session) -> None:
    steps = np.arange(1, 1001)
    values = steps.astype(np.float64)
    for run in (RUN, OTHER_RUN):
        curves.append(session, run, "train_loss", 0, steps, values, values)
        curves.append(session, run, "val_loss", 0, steps[99::100], values[99::100], values[99::100])
    curves.cut(session, RUN, 250)
    told = curves.summaries(session, [RUN, OTHER_RUN])
    assert {name: summary["count"] for name, summary in told[RUN].items()} == {"train_loss": 250, "val_loss": 2}
    assert {name: summary["count"] for name, summary in told[OTHER_RUN].items()} == {"train_loss": 1000, "val_loss": 10}
    curves.cut(session, RUN, 0)
    curves.cut(session, RUN, 0)
    assert list(curves.find(session, [RUN, OTHER_RUN])) == [OTHER_RUN]


# Reading


def check_curve(curve: Curve, points: int, steps: Integers, values: Floats) -> None:
    """What holds for a curve of these points, however it is answered."""
    finite = np.isfinite(values)
    assert curve.count == len(values)
    if len(values) <= points:
        np.testing.assert_array_equal(curve.step, steps)
        np.testing.assert_array_equal(curve.value, values)
        assert not curve.downsampled
        return
    assert curve.downsampled
    assert len(curve.step) <= points
    np.testing.assert_equal((curve.step[0], curve.value[0]), (steps[0], values[0]))
    np.testing.assert_equal((curve.step[-1], curve.value[-1]), (steps[-1], values[-1]))
    assert set(curve.step.tolist()) <= set(steps.tolist())
    if finite.any():
        shown = curve.value[np.isfinite(curve.value)]
        assert (shown.min(), shown.max()) == (values[finite].min(), values[finite].max())
    if (~finite).sum() <= points // 2:
        odd = ~np.isfinite(curve.value)
        np.testing.assert_array_equal(curve.step[odd], steps[~finite])
        np.testing.assert_array_equal(curve.value[odd], values[~finite])
    buckets = curve.weight > 0
    assert curve.weight.sum() == finite.sum()
    assert (curve.min[buckets] <= curve.value[buckets]).all()
    assert (curve.value[buckets] <= curve.max[buckets]).all()
    np.testing.assert_array_equal(curve.min[~buckets], curve.value[~buckets])
    if finite.any():
        mean = (curve.value[buckets] * (curve.weight[buckets] / finite.sum())).sum()
        np.testing.assert_allclose(mean, values[finite].mean(), rtol=1e-9, atol=1e-12 * np.abs(values[finite]).max())


@settings(deadline=None, max_examples=60)
@given(
    count=st.one_of(st.integers(1, 300), st.sampled_from([4096, 5000, 20_000])),
    points=st.integers(10, 400),
    odd_share=st.sampled_from([0, 0.001, 0.02, 1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_read_keeps_the_ends_the_extremes_and_everything_non_finite(
    database: Database, count: int, points: int, odd_share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with Session(database.writer) as session:
        log = logged(session, wild_values(rng, count, odd_share), steps=np.cumsum(rng.integers(0, 3, count)))
        curve = log.read(points)
        check_curve(curve, points, log.steps, log.values)
        assert (np.diff(curve.step) >= 0).all()
        assert (np.diff(curve.time) >= 0).all()


@settings(deadline=None, max_examples=60)
@given(
    count=st.sampled_from([10, 300, 5000, 20_000]),
    points=st.integers(10, 400),
    order=st.sampled_from(["rising", "repeated", "restarted", "shuffled"]),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_range_of_steps_is_read_whatever_their_order(
    database: Database, count: int, points: int, order: str, ends: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    steps = {
        "rising": np.arange(count),
        "repeated": np.cumsum(rng.integers(0, 2, count)),
        "restarted": np.arange(count) % (count // 3 + 1),
        "shuffled": rng.permutation(count),
    }[order]
    with Session(database.writer) as session:
        log = logged(session, wild_values(rng, count, 0.005), steps)
        low, high = (int(end * count) for end in ends)
        wanted = (steps >= low) & (steps <= high)
        curve = log.read(points, low, high)
        if wanted.any():
            check_curve(curve, points, steps[wanted], log.values[wanted])
        else:
            assert (len(curve.step), curve.count) == (0, 0)
        np.testing.assert_array_equal(log.read(points, low).count, (steps >= low).sum())
        np.testing.assert_array_equal(log.read(points, to_step=high).count, (steps <= high).sum())


@pytest.mark.parametrize("odd", [[], [0], [-1], [0, -1]])
def test_the_ends_stay_at_the_ends_and_nothing_is_shown_twice(session: Session, odd: list[int]) -> None:
    rng = np.random.default_rng(0)
    for count in (20, 47, 101, 260, 1025, 4097):
        values = rng.normal(size=count)
        values[odd] = np.nan
        curves.cut(session, RUN, 0)
        log = logged(session, values)
        for points in range(10, min(count, 300), 7):
            curve = log.read(points)
            check_curve(curve, points, log.steps, values)
            beside = curve.step[curve.weight == 0]
            assert len(set(beside)) == len(beside)
            assert (np.diff(curve.step) >= 0).all()


def test_a_range_shows_no_non_finite_value_from_beyond_its_ends(session: Session) -> None:
    values = np.ones(20_000)
    values[990:1010] = values[18_990:19_010] = np.nan
    curve = logged(session, values).read(100, 1000, 19_000)
    odd = curve.step[np.isnan(curve.value)]
    assert odd.tolist() == [*range(1000, 1011), *range(18_991, 19_001)]
    assert curve.count == 18_001


def test_a_spike_of_one_step_among_many_is_seen(session: Session) -> None:
    values = np.ones(200_000)
    values[123_456], values[150_000] = 50, 30
    curve = logged(session, values).read(500)
    assert len(curve.step) <= 500
    assert curve.value[curve.step == 123_457].tolist() == [50]
    assert sorted(curve.max)[-3:] == [30, 50, 50]


def test_a_long_curve_is_answered_from_few_rows(session: Session) -> None:
    log = logged(session, np.sin(np.arange(300_000) / 1e4))
    statements = watched(session)
    summary = log.summary
    curve = curves.read(session, summary, 1000)
    assert len(statements) == 3
    assert 500 <= len(curve.step) <= 1000
    np.testing.assert_allclose(curve.value, np.sin((curve.step - 1) / 1e4), atol=0.03)


@settings(deadline=None, max_examples=15)
@given(
    counts=st.lists(st.sampled_from([1, 7, 99, 100, 101, 900, 5000, 40_000]), min_size=1, max_size=5),
    odd_share=st.sampled_from([0.0, 0.0005, 0.2, 1.0]),
    points=st.sampled_from([10, 100, 1000]),
    seed=st.integers(0, 2**32 - 1),
)
def test_curves_read_together_are_as_each_is_alone(
    database: Database, counts: list[int], odd_share: float, points: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with Session(database.writer) as session:
        logs = [Logged(session, f"metric-{number}") for number in range(len(counts))]
        for log, count in zip(logs, counts, strict=True):
            log.append(np.sort(rng.integers(0, 2 * count, count)), wild_values(rng, count, odd_share))
        summaries = [logs[number].summary for number in rng.permutation(len(logs))]
        together = curves.read_all(session, summaries, points)
        for summary, curve in zip(summaries, together, strict=True):
            alone = curves.read(session, summary, points)
            for name, column in vars(alone).items():
                np.testing.assert_array_equal(getattr(curve, name), column)


def test_many_curves_take_as_many_statements_as_one(session: Session) -> None:
    values = np.sin(np.arange(20_000) / 1e3)
    values[5000] = np.nan
    logs = [Logged(session, f"metric-{number}") for number in range(12)]
    for log in logs:
        log.append(np.arange(20_000), values)
    summaries = [log.summary for log in logs]
    statements = watched(session)
    curves.read_all(session, summaries[:1], 1000)
    alone = len(statements)
    curves.read_all(session, summaries, 1000)
    assert alone == len(statements) - alone == 3


def test_more_non_finite_values_than_room_are_shown_once_a_bucket(session: Session) -> None:
    values = np.ones(50_000)
    values[10_000:20_000:2] = np.nan
    values[20_000:30_000] = np.inf
    curve = logged(session, values).read(100)
    assert len(curve.step) <= 100
    nan, infinite = curve.step[np.isnan(curve.value)], curve.step[curve.value == np.inf]
    assert len(nan) > 5
    assert len(infinite) > 5
    assert nan.min() > 9000
    assert nan.max() < infinite.min() + 1000
    assert infinite.max() < 31_000


# Axes and smoothing


def make_plan() -> plan.Plan:
    spec = JobSpec.model_validate(
        {"task": "classification", "dataset": "digits", "hyperparameters": {"batch_size": 64, "epochs": 10}}
    )
    return plan.make(spec, 1000)


def test_epochs_and_samples_follow_from_the_plan(session: Session) -> None:
    steps, times = np.array([0, 1, 13, 26]), np.array([0.0, 0.5, 1.0, 2.0])
    counted = make_plan()
    assert (counted.train_samples, counted.steps_per_epoch) == (800, 13)
    counting = Counting(counted, gpus=0.5)
    assert counting.along(Axis.STEP, steps, times) is steps
    assert counting.along(Axis.TIME, steps, times) is times
    assert counting.along(Axis.EPOCH, steps, times).tolist() == [0, 1 / 13, 1, 2]
    assert counting.along(Axis.SAMPLES, steps, times).tolist() == [0, 64, 800, 1600]
    assert counting.along(Axis.GPU_SECONDS, steps, times).tolist() == [0, 0.25, 0.5, 1]


def test_a_run_without_a_plan_has_steps_and_time_alone() -> None:
    assert Counting(None).available == [Axis.STEP, Axis.TIME, Axis.GPU_SECONDS]
    assert Counting(None, batch_size=8).available == [axis for axis in Axis if axis is not Axis.EPOCH]
    assert Counting(make_plan()).available == list(Axis)
    with pytest.raises(InvalidInput) as caught:
        Counting(None).along(Axis.EPOCH, np.array([1]), np.array([1.0]))
    assert [(problem.param, problem.code) for problem in caught.value.problems] == [("x", "no_plan")]


def test_a_script_that_says_how_much_it_trains_on_has_epochs() -> None:
    steps, times = np.array([1, 4, 8]), np.zeros(3)
    counting = Counting(plan.Epoch.of(train_samples=100, batch_size=32))
    assert counting.along(Axis.EPOCH, steps, times).tolist() == [0.25, 1, 2]
    assert counting.along(Axis.SAMPLES, steps, times).tolist() == [32, 100, 200]
    assert Counting(None, batch_size=32).along(Axis.SAMPLES, steps, times).tolist() == [32, 128, 256]
    far = Counting(None, batch_size=1000).along(Axis.SAMPLES, np.array([2**63 - 1]), times[:1])
    assert far.tolist() == pytest.approx([1000 * 2.0**63])


@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf]), max_size=200),
    weight=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.999]),
)
def test_smoothing_is_adams_average_and_passes_non_finite_values_through(values: list[float], weight: float) -> None:
    average, taken, expected = 0.0, 0, []
    for value in values:
        if np.isfinite(value):
            average, taken = weight * average + (1 - weight) * value, taken + 1
            expected.append(average / (1 - weight**taken))
        else:
            expected.append(value)
    np.testing.assert_allclose(smooth(np.array(values), weight), expected, rtol=1e-6, atol=1e-6)


def test_points_beside_their_buckets_do_not_pull_the_average() -> None:
    values = np.array([9.0, 1.0, 1.0, 100.0, np.nan, 1.0])
    counted = np.array([False, True, True, False, False, True])
    np.testing.assert_allclose(smooth(values, 0.9, counted), [9, 1, 1, 1, np.nan, 1])


def test_a_weight_of_one_or_more_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1"):
        smooth(np.ones(3), 1.0)
