"""What PyTorch warns of while it trains, as a sentence that is worth recording."""

import warnings

import pytest

from workers.training.determinism import MOST, heard

SHORT = "Flash Attention defaults to a non-deterministic algorithm"
LONG = f"{SHORT}. To explicitly enable determinism call torch.use_deterministic_algorithms(True)."


def warn(*messages: str) -> None:
    for message in messages:
        warnings.warn(message, UserWarning, stacklevel=1)


def test_each_thing_is_told_once_and_only_if_it_is_about_determinism() -> None:
    told: list[str] = []
    with warnings.catch_warnings(record=True), heard(told.append):
        warnings.simplefilter("always")
        warn(LONG, "the learning rate is odd", LONG)
    assert told == [SHORT]


def test_there_is_an_end_to_what_is_told() -> None:
    told: list[str] = []
    with warnings.catch_warnings(record=True), heard(told.append):
        warnings.simplefilter("always")
        warn(*(f"operation {number} is not deterministic" for number in range(2 * MOST)))
    assert len(told) == MOST


def test_nothing_is_heard_afterwards() -> None:
    told: list[str] = []
    with heard(told.append):
        pass
    with pytest.warns(UserWarning, match="Flash"):
        warn(LONG)
    assert told == []
