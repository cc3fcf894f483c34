"""Routes for data sets."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from service import datasets
from service.api import formats
from service.api.access import Reader
from service.api.answers import Json
from service.api.formats import Wanted, Width
from service.api.listings import Limit
from service.api.place import Here
from service.api.strict_route import StrictRoute
from service.api.views import DatasetList, DatasetView
from service.spec import NAME_PATTERN
from service.tables import Dataset

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictRoute)

AfterName = Annotated[str | None, Query(pattern=NAME_PATTERN, description="the last name of the page before")]
TABLE = ["name", "version", "task", "rows", "features", "classes", "bytes", "description"]


@router.get("", responses={200: {"model": DatasetList}})
def list_datasets(
    here: Here, _: Reader, form: Wanted, after: AfterName = None, limit: Limit = 50, width: Width = 120
) -> Response:
    """The newest version of each data set, by name."""
    with here.database.read() as session:
        found = session.scalars(datasets.newest(after, limit + 1)).all()
    rows = [_row(each) for each in found]
    return formats.listing([_newest(each) for each in found], limit, form, TABLE, rows, width)


@router.get("/{name}", responses={200: {"model": DatasetView}})
def get_dataset(here: Here, _: Reader, name: Annotated[str, Path(pattern=NAME_PATTERN)]) -> Response:
    """One data set: its newest version, and all versions."""
    with here.database.read() as session:
        found = datasets.versions(session, name)
    return Json({**_newest(found[0]), "versions": [_version(each) for each in found]})


def _newest(dataset: Dataset) -> dict[str, Any]:
    about = {"id": dataset.name, "object": "dataset", "name": dataset.name, "description": dataset.description}
    return about | _version(dataset)


def _version(dataset: Dataset) -> dict[str, Any]:
    return {
        "version": dataset.version,
        "format": dataset.format,
        "task": dataset.task,
        "rows": dataset.rows,
        "columns": dataset.columns,
        "target": dataset.target,
        "classes": dataset.classes,
        "sha256": dataset.sha256,
        "bytes": dataset.bytes,
        "owner": dataset.owner,
        "created_at": dataset.created_at,
    }


def _row(dataset: Dataset) -> list[formats.Cell]:
    classes = None if dataset.classes is None else len(dataset.classes)
    counts = [dataset.rows, len(dataset.columns), classes, dataset.bytes]
    return [dataset.name, dataset.version, dataset.task, *counts, dataset.description]
