"""Runs side by side: what differs, who did best, groups over seeds, and which differences are more than chance."""

from service.compare.comparison import (
    Compared,
    Comparison,
    Ranked,
    compare,
    differing_parameters,
    ranked,
)
from service.compare.entries import Entry, Outcome, mean_height, outcome, reached, tail_mean
from service.compare.groups import Group
from service.compare.verdicts import Verdict

__all__ = [
    "Compared",
    "Comparison",
    "Entry",
    "Group",
    "Outcome",
    "Ranked",
    "Verdict",
    "compare",
    "differing_parameters",
    "mean_height",
    "outcome",
    "ranked",
    "reached",
    "tail_mean",
]
