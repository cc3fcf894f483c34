"""The points that are not finite, found by opening only the rollups that count any: for several curves together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from service.curves import rollups, stored
from service.curves.rollups import POSITION_BITS, Integers, Records, key
from service.curves.stored import NO_POINTS, Points


@dataclass(frozen=True, eq=False)
class Looked:
    """What was read of one curve: records of a level, or finer ones at ragged ends, in order of position."""

    series: int
    level: int
    records: Records


def shown(session: Session, looked: Sequence[Looked], most: int) -> list[Points | None]:
    """All points of each that are not finite; None where they are more than `most`."""
    counts = [int(rollups.non_finite(each.records).sum()) for each in looked]
    few = [each for each, count in zip(looked, counts, strict=True) if 0 < count <= most]
    found = dict(zip((each.series for each in few), _opened(session, few), strict=True)) if few else {}
    return [
        found[each.series] if 0 < count <= most else NO_POINTS if count == 0 else None
        for each, count in zip(looked, counts, strict=True)
    ]


def _opened(session: Session, looked: Sequence[Looked]) -> list[Points]:
    series, levels = (np.array([getattr(each, name) for each in looked]) for name in ("series", "level"))
    parts = [each.records[rollups.non_finite(each.records) > 0] for each in looked]
    asked = dirty = rollups.join(parts)
    holder = curve = np.repeat(np.arange(len(looked)), [len(part) for part in parts])
    for level in range(int(levels.max()) - 1, 0, -1):
        above = levels[curve] > level
        touched = _touched(dirty[above], curve[above], rollups.size(level))
        inner, its = stored.records_at(session, level, series, *touched)
        odd = rollups.non_finite(inner) > 0
        dirty = rollups.join([dirty[~above], inner[odd]])
        curve = np.concatenate([curve[~above], its[odd]])
    curve, positions = _touched(dirty, curve, 1)
    # A ragged end of a range is finer than the records opened for it: what lies beyond it was not asked for.
    places = np.searchsorted(key(holder, asked["position"]), key(curve, positions), "right") - 1
    holders = asked[places]
    within = (positions >= holders["position"]) & (positions < holders["position"] + holders["count"])
    curve, positions = curve[within], positions[within]
    wanted = list(zip(series[curve].tolist(), positions.tolist(), strict=True))
    belong, points = stored.points_of(session, wanted, stored.NOT_FINITE)
    of_series = np.array(belong, np.int64)
    return [points.where(of_series == each.series) for each in looked]


def _touched(records: Records, curve: Integers, size: int) -> tuple[Integers, Integers]:
    """Which stretches of `size` positions the records touch: the curves and the indexes, rising."""
    first = records["position"] // size
    last = (records["position"] + records["count"] - 1) // size
    most = int((last - first).max(initial=-1)) + 1
    every = first[:, None] + np.arange(most)
    keys = np.unique(key(curve[:, None], every)[every <= last[:, None]])
    return keys >> POSITION_BITS, keys & ((1 << POSITION_BITS) - 1)
