"""Data sets that people bring: uploaded or registered, in every form that a person or an attacker may give them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

CSV, PARQUET, NPZ, TEXT = "text/csv", "application/vnd.apache.parquet", "application/x-npz", "text/plain"

People = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, furnished: Path) -> Iterator[None]:
    """Placeholder, replaced below."""
    yield None
