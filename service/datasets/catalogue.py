"""Which data sets there are: found, listed, added and removed. A version never changes, its number is never reused."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from service import clock
from service.database import sync
from service.datasets import arrays
from service.errors import BuiltIn, DatasetInUse, NotFound, NotOwner, QuotaExceeded
from service.ids import new_id
from service.inspection.found import Found
from service.states import TERMINAL, Scope
from service.tables import Dataset, Job
from service.users import Principal

PRESENT = Dataset.removed_at.is_(None)


@dataclass(frozen=True)
class Arrival:
    """What may become a data set: a file's name and hash, what it holds, and the folder with its arrays.

    path: of a registered file. copied: whether all arrays are in the folder.
    """

    name: str
    format: str
    sha256: str
    bytes: int
    found: Found
    folder: Path
    arrays_sha256: str
    path: str | None = None
    copied: bool = True
    description: str = ""


def find(session: Session, reference: str) -> Dataset:
    """The version that NAME@VERSION names, or the newest of NAME. Raises NotFound."""
    name, _, version = reference.partition("@")
    query = select(Dataset).where(Dataset.name == name, PRESENT).order_by(Dataset.version.desc()).limit(1)
    if version:
        query = query.where(Dataset.version == int(version))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("data set")
    return found


def newest(after: str | None, limit: int) -> Select[Dataset]:
    """The newest version of each data set, by name, from behind the name `after`."""
    numbers = select(Dataset.name, func.max(Dataset.version).label("version")).where(PRESENT)
    last = numbers.group_by(Dataset.name).subquery()
    query = (
        select(Dataset)
        .join(last, (last.c.name == Dataset.name) & (last.c.version == Dataset.version))
        .order_by(Dataset.name)
        .limit(limit)
    )
    return query if after is None else query.where(Dataset.name > after)


def versions(session: Session, name: str) -> list[Dataset]:
    """All versions, newest first. Raises NotFound."""
    query = select(Dataset).where(Dataset.name == name, PRESENT).order_by(Dataset.version.desc())
    found = list(session.scalars(query))
    if not found:
        raise NotFound("data set")
    return found


def names(session: Session) -> list[str]:
    return list(session.scalars(select(Dataset.name).where(PRESENT).distinct().order_by(Dataset.name)))


def require_owner(session: Session, principal: Principal, name: str) -> None:
    """What a name stands for is changed by the owner of its oldest version or an admin, and what is built in by nobody.

    Raises NotOwner or BuiltIn.
    """
    oldest = select(Dataset).where(Dataset.name == name, PRESENT).order_by(Dataset.version).limit(1)
    dataset = session.scalars(oldest).one_or_none()
    if dataset is None:
        return
    if dataset.owner is None:
        raise BuiltIn
    if dataset.owner != principal.user and principal.scope is not Scope.ADMIN:
        raise NotOwner("data set")


def room_left(session: Session, user: str, quota_mib: int) -> int:
    """Bytes of disk that the user's data sets may take yet. Raises QuotaExceeded when there are none."""
    used = session.scalar(select(func.sum(Dataset.stored_bytes)).where(Dataset.owner == user, PRESENT)) or 0
    left: int = (quota_mib << 20) - used
    if left <= 0:
        raise QuotaExceeded(quota_mib)
    return left


def add(session: Session, owner: str | None, arrival: Arrival, datasets_path: Path) -> tuple[Dataset, bool]:
    """The new version; or the one that holds the same, read in the same way, and False.

    Its folder is moved before the row is committed: what a crash leaves in between has no row, and goes at the next
    start.
    """
    found = arrival.found
    same = select(Dataset).where(
        Dataset.name == arrival.name,
        PRESENT,
        Dataset.sha256 == arrival.sha256,
        Dataset.format == arrival.format,
        Dataset.task == found.task,
        Dataset.target == found.target if found.target is not None else Dataset.target.is_(None),
        Dataset.path == arrival.path if arrival.path is not None else Dataset.path.is_(None),
    )
    known = session.scalars(same.order_by(Dataset.version.desc()).limit(1)).one_or_none()
    if known is not None:
        return known, False
    last = session.scalar(select(func.max(Dataset.version)).where(Dataset.name == arrival.name)) or 0
    dataset = Dataset(
        id=new_id(),
        name=arrival.name,
        version=last + 1,
        format=arrival.format,
        kind=found.kind,
        task=found.task,
        shape=found.shape,
        rows=found.rows,
        validation_rows=found.validation_rows,
        columns=found.columns,
        target=found.target,
        classes=found.classes,
        sha256=arrival.sha256,
        bytes=arrival.bytes,
        arrays_sha256=arrival.arrays_sha256,
        stored_bytes=arrays.size(arrival.folder),
        path=arrival.path,
        copied=arrival.copied,
        description=arrival.description,
        owner=owner,
        created_at=clock.now(),
    )
    session.add(dataset)
    session.flush()
    sync(arrival.folder)
    arrival.folder.rename(datasets_path / dataset.id)
    sync(datasets_path)
    return dataset, True


def remove(session: Session, principal: Principal, reference: str) -> list[str]:
    """Takes away NAME@VERSION, or all versions of NAME; the ids of the folders that may go when this is committed.

    Raises NotFound, NotOwner, BuiltIn or DatasetInUse.
    """
    name, _, version = reference.partition("@")
    gone = [find(session, reference)] if version else versions(session, name)
    require_owner(session, principal, name)
    ids = [dataset.id for dataset in gone]
    needed = select(func.count()).select_from(Job).where(Job.dataset_id.in_(ids), Job.status.not_in(TERMINAL))
    if jobs := session.scalars(needed).one():
        raise DatasetInUse(jobs)
    session.execute(update(Dataset).where(Dataset.id.in_(ids)).values(removed_at=clock.now()))
    return ids
