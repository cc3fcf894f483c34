"""The tables, declared once; `migrations/` builds exactly these, and a test compares the two.

Times are RFC 3339 texts in UTC, so that a person with `sqlite3` reads them and they sort. A run is the record of a
training; a job is a run's place in the queue and shares its `seq` and `id`.
"""

from service.tables.base import Table
from service.tables.curves import Point, Rollup, Series
from service.tables.data import Dataset
from service.tables.people import IdempotencyKey, Project, ProjectMember, Token, User
from service.tables.queue import (
    Attempt,
    Checkpoint,
    Job,
    JobDependency,
    JobEvent,
    MemoryLimit,
    OutsideRun,
    Run,
    Study,
    Usage,
    WorkerRow,
)

__all__ = [
    "Attempt",
    "Checkpoint",
    "Dataset",
    "IdempotencyKey",
    "Job",
    "JobDependency",
    "JobEvent",
    "MemoryLimit",
    "OutsideRun",
    "Point",
    "Project",
    "ProjectMember",
    "Rollup",
    "Run",
    "Series",
    "Study",
    "Table",
    "Token",
    "Usage",
    "User",
    "WorkerRow",
]
