import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from workers import spool

NAMES = ["train_loss", "learning_rate", "samples_per_second"]


def points(first: int, count: int) -> spool.Records:
    steps = np.arange(first, first + count)
    made = np.empty(count, spool.RECORD)
    made["series"], made["step"], made["value"], made["time"] = steps % 3, steps, 1 / steps, steps / 100
    return made


def written(path: Path, count: int) -> bytes:
    writer = spool.Writer(path, NAMES)
    writer.append(points(1, count))
    writer.close()
    return path.read_bytes()


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    writer = spool.Writer(tmp_path / "spool", NAMES)
    writer.append(points(1, 4))
    first, offset = spool.read(tmp_path / "spool", 0)
    assert first.tolist() == points(1, 4).tolist()
    assert spool.read(tmp_path / "spool", offset)[0].tolist() == []
    writer.append(points(5, 3))
    second, end = spool.read(tmp_path / "spool", offset)
    assert second.tolist() == points(5, 3).tolist()
    assert (offset, end) == (4 * 28, 7 * 28)
    assert spool.names(tmp_path / "spool") == NAMES
    writer.close()


def test_values_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    values = points(1, 3)
    values["value"] = [np.nan, np.inf, -np.inf]
    writer = spool.Writer(tmp_path / "spool", NAMES)
    writer.append(values)
    writer.close()
    assert spool.read(tmp_path / "spool", 0)[0]["value"].tolist() == pytest.approx(
        [np.nan, np.inf, -np.inf], nan_ok=True
    )


def test_no_more_bytes_are_read_than_asked_for_but_always_a_whole_record(tmp_path: Path) -> None:
    written(tmp_path / "spool", 5)
    records, offset = spool.read(tmp_path / "spool", 0, most_bytes=2 * 28 + 27)
    assert (records["step"].tolist(), offset) == ([1, 2], 2 * 28)
    records, offset = spool.read(tmp_path / "spool", offset, most_bytes=1)
    assert (records["step"].tolist(), offset) == ([3], 3 * 28)


def test_a_missing_file_reads_as_nothing(tmp_path: Path) -> None:
    assert spool.names(tmp_path / "spool") == []
    records, offset = spool.read(tmp_path / "spool", 56)
    assert (len(records), offset) == (0, 56)


def test_a_file_cut_anywhere_gives_its_whole_records_and_later_the_rest(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", 3)
    header = len(whole) - 3 * 28
    torn = tmp_path / "torn"
    for length in range(len(whole)):
        torn.write_bytes(whole[:length])
        complete = max(0, length - header) // 28
        records, offset = spool.read(torn, 0)
        assert records.tolist() == points(1, complete).tolist()
        assert spool.names(torn) == (NAMES if length >= header else [])
        torn.write_bytes(whole)
        assert spool.read(torn, offset)[0].tolist() == points(1 + complete, 3 - complete).tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.integers(1, 3000))
def test_every_record_is_read_once_whatever_the_sizes(
    tmp_path_factory: pytest.TempPathFactory, appends: list[int], most_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool"
    writer = spool.Writer(path, NAMES)
    steps: list[int] = []
    offset = 0
    first = 1
    for count in appends:
        writer.append(points(first, count))
        first += count
        records, offset = spool.read(path, offset, most_bytes)
        steps += records["step"].tolist()
    while len(records):
        records, offset = spool.read(path, offset, most_bytes)
        steps += records["step"].tolist()
    writer.close()
    assert steps == list(range(1, first))


def test_an_open_file_can_be_read_without_its_path(tmp_path: Path) -> None:
    written(tmp_path / "spool", 2)
    with (tmp_path / "spool").open("rb") as file:
        assert spool.names(file.fileno()) == NAMES
        assert spool.read(file.fileno(), 28)[0]["step"].tolist() == [2]
        assert file.tell() == 0


def test_two_trainers_cannot_write_one_spool(tmp_path: Path) -> None:
    before = written(tmp_path / "spool", 2)
    with pytest.raises(FileExistsError):
        spool.Writer(tmp_path / "spool", NAMES)
    assert (tmp_path / "spool").read_bytes() == before


def test_a_spool_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        written(tmp_path / "spool", 1)
    finally:
        os.umask(mask)
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o600


def test_another_file_is_not_taken_for_a_spool(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"SQLite format 3\0" * 10)
    with pytest.raises(spool.NotASpool, match="is not a spool file"):
        spool.read(tmp_path / "spool", 0)
    with pytest.raises(spool.NotASpool):
        spool.names(tmp_path / "spool")
