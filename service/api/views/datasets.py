"""What is answered about data sets."""

from typing import Any

from pydantic import Field

from service.api.views import View


class DatasetVersion(View):
    """`shape` is that of one sample. `path` is of a registered file; `copied` says whether its arrays were copied."""

    version: int
    format: str
    kind: str
    task: str
    shape: list[int]
    rows: int
    validation_rows: int | None
    features: int = Field(description="how many columns there are besides the target")
    columns: list[dict[str, Any]] = Field(description="in lists, and among versions, the first 100, without values")
    target: str | None
    classes: list[dict[str, Any]] | None
    sha256: str
    bytes: int
    stored_bytes: int
    path: str | None
    copied: bool
    owner: str | None
    created_at: str


class DatasetView(DatasetVersion):
    """The newest version, and all versions; `id` is the name."""

    id: str
    object: str
    name: str
    description: str
    versions: list[DatasetVersion] = []


class DatasetList(View):
    data: list[DatasetView]
    has_more: bool
    next_after: str | None
