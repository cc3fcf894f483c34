"""Rollups: records that merge, whatever the sizes in which the points came."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from service.curves import rollups
from service.curves.rollups import BLOCK, FANOUT, NOWHERE, PACKED_BLOCK, Floats, Integers, Records

SIZES = st.one_of(st.integers(0, 40), st.sampled_from([128, 129, 768, 769, 1023, 1025, 6144, 8193]))


def wild_values(rng: np.random.Generator, count: int) -> Floats:
    """Values as losses are when things go wrong: mostly ordinary, some huge, NaN or infinite."""
    values = rng.normal(size=count)
    odd = rng.random(count) < 0.05
    values[odd] = rng.choice([np.nan, np.inf, -np.inf, 1.7e308, -1.7e308, 5e-324, 0.0, -0.0], size=odd.sum())
    return values


def records_of(values: Floats, start: int = 0) -> Records:
    positions = np.arange(start, start + len(values))
    return rollups.of_points(positions, positions + 1, values, positions.astype(np.float64) / 2)


def check_record(record: rollups.Record, start: int, steps: Integers, values: Floats, times: Floats) -> None:
    """Compares with what the points from position `start` come to when looked at one by one."""
    finite = values[np.isfinite(values)]
    assert record["position"] == start
    assert record["count"] == len(values)
    assert record["nan"] == np.isnan(values).sum()
    assert record["plus_inf"] == (values == np.inf).sum()
    assert record["minus_inf"] == (values == -np.inf).sum()
    assert record["first_step"] == steps[0]
    assert record["low_step"] == steps.min()
    assert record["high_step"] == steps.max()
    assert record["first_time"] == times[0]
    if len(finite) == 0:
        assert (record["min"], record["max"], record["mean"]) == (np.inf, -np.inf, 0)
        assert record["min_position"] == record["max_position"] == NOWHERE
        return
    assert record["min"] == finite.min()
    assert record["max"] == finite.max()
    assert record["min_position"] == start + np.flatnonzero(values == finite.min())[0]
    assert record["max_position"] == start + np.flatnonzero(values == finite.max())[0]
    mean = math.fsum(value / len(finite) for value in finite.tolist())
    assert abs(record["mean"] - mean) <= 1e-12 * np.abs(finite).max()
    assert record["min"] <= record["mean"] <= record["max"]


class Shelf:
    """What a curve's rollups look like as stored, without a database."""

    def __init__(self) -> None:
        self.count = 0
        self.blocks: dict[tuple[int, int], bytes] = {}

    def extend(self, points: Records) -> None:
        levels = range(1, rollups.top(self.count) + 1)
        places = [(level, rollups.tail_block(self.count, level)) for level in levels]
        tails = {place[0]: rollups.unpacked(place[0], [self.blocks[place]]) for place in places if place in self.blocks}
        for level, (first, records) in rollups.extend([rollups.Growth(self.count, tails, points)])[0].items():
            self.blocks |= {(level, block): data for block, data in rollups.blocks(level, first, records)}
        self.count += len(points)

    def records(self, level: int) -> Records:
        return rollups.unpacked(level, [self.blocks[place] for place in sorted(self.blocks) if place[0] == level])


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(SIZES, max_size=8), seed=st.integers(0, 2**32 - 1))
def test_points_in_pieces_of_any_size_leave_the_same_rollups(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = wild_values(rng, sum(sizes))
    steps = rng.integers(-100, 100, len(values))
    times = rng.random(len(values))
    shelf = Shelf()
    for stop, size in zip(np.cumsum(sizes, dtype=int).tolist(), sizes, strict=True):
        part = slice(stop - size, stop)
        positions = np.arange(stop - size, stop)
        shelf.extend(rollups.of_points(positions, steps[part], values[part], times[part]))

    levels = {level for level, _ in shelf.blocks}
    assert (
        levels == {1, *(level for level in range(2, 8) if len(values) > rollups.size(level))}
        if len(values)
        else not levels
    )
    for level in levels:
        records = shelf.records(level)
        size = rollups.size(level)
        assert len(records) == rollups.length(len(values), level)
        for index, record in enumerate(records):
            part = slice(index * size, (index + 1) * size)
            check_record(record, index * size, steps[part], values[part], times[part])


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    regroup=st.integers(1, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_merging_is_the_same_in_one_go_and_in_two(sizes: list[int], regroup: int, seed: int) -> None:
    values = wild_values(np.random.default_rng(seed), sum(sizes))
    points = records_of(values)
    parts = rollups.merge(points, np.cumsum([0, *sizes[:-1]]))
    twice = rollups.merge(parts, rollups.groups(len(parts), regroup))
    once = rollups.merge(points, np.cumsum([0, *sizes[:-1]])[::regroup])
    for name in rollups.RECORD.names or ():
        if name != "mean":
            np.testing.assert_array_equal(twice[name], once[name])
    for record in twice:
        stop = record["position"] + record["count"]
        part = slice(record["position"], stop)
        positions = np.arange(record["position"], stop)
        check_record(record, int(record["position"]), positions + 1, values[part], positions * 0.5)


def test_nothing_merges_to_nothing() -> None:
    assert len(rollups.merge(rollups.none(), rollups.groups(0, 1))) == 0


def test_the_mean_of_the_largest_numbers_does_not_overflow() -> None:
    largest = np.finfo(np.float64).max
    merged = rollups.merge(records_of(np.full(49, largest)), np.zeros(1, np.int64))
    assert merged["mean"][0] == largest
    merged = rollups.merge(records_of(np.array([largest, -largest])), np.zeros(1, np.int64))
    assert merged["mean"][0] == 0


@pytest.mark.parametrize(
    ("count", "levels"),
    [(1, 1), (16, 1), (128, 1), (129, 2), (1024, 2), (1025, 3), (10**6, 6), (10**9, 9), (10**12, 10)],
)
def test_a_level_is_there_once_it_has_more_than_one_record(count: int, levels: int) -> None:
    assert rollups.top(count) == levels


def test_curves_grow_together_as_they_do_alone() -> None:
    rng = np.random.default_rng(0)
    counts, added = [0, 1, 48 * 16, 1024, 1025, 70_000], [1, 2000, 16, 1, 5, 300]
    growths = []
    for count, more in zip(counts, added, strict=True):
        shelf = Shelf()
        shelf.extend(records_of(wild_values(rng, count)))
        tails = {
            level: shelf.records(level)[rollups.tail_block(count, level) * rollups.block(level) :]
            for level in range(1, 6)
        }
        growths.append(rollups.Growth(count, tails, records_of(wild_values(rng, more), start=count)))
    together = rollups.extend(growths)
    for growth, renewed, whole in zip(growths, together, rollups.whole(together), strict=True):
        [alone] = rollups.extend([growth])
        assert {level: (block, data.tobytes()) for level, (block, data) in renewed.items()} == {
            level: (block, data.tobytes()) for level, (block, data) in alone.items()
        }
        assert whole["count"] == growth.count + len(growth.points)
        assert whole["position"] == 0
    assert rollups.extend([]) == []


def test_blocks_hold_whole_groups_and_fit_one_overflow_page_of_sqlite() -> None:
    assert BLOCK % FANOUT == PACKED_BLOCK % FANOUT == 0
    largest_local = (4096 - 12) * 64 // 255 - 23
    row_header = 40
    assert BLOCK * rollups.RECORD.itemsize + row_header <= largest_local + 4092


def test_a_small_append_rewrites_one_block_of_each_level() -> None:
    shelf = Shelf()
    shelf.extend(records_of(np.zeros(100_000)))
    before = dict(shelf.blocks)
    shelf.extend(records_of(np.ones(1), start=100_000))
    changed = [place for place, data in shelf.blocks.items() if before.get(place) != data]
    assert len(changed) == rollups.top(100_000) == 5
