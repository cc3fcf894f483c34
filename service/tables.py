"""The tables, declared once; `migrations/` builds exactly these, and a test compares the two.

Times are RFC 3339 texts in UTC, so that a person with `sqlite3` reads them and they sort. A run is the record of a
training; a job is a run's place in the queue and shares its `seq` and `id`.
"""

from enum import Enum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Computed,
    Double,
    Enum as EnumColumn,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.states import Direction, EndReason, JobStatus, Scope, StudyKind, Visibility

# SQLite numbers rows by itself only in a column declared INTEGER.
Serial = BigInteger().with_variant(Integer, "sqlite")


def words(enumeration: type[Enum]) -> EnumColumn:
    """A column that stores the words of an enumeration and refuses members of another."""
    return EnumColumn(
        enumeration,
        values_callable=lambda members: [member.value for member in members],
        native_enum=False,
        create_constraint=True,
        length=16,
        name=enumeration.__name__.lower(),
    )


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class User(Table):
    """Somebody who submits. The name is the key: it is never given to another, also when the user has left."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[str] = mapped_column(String(24))
    removed_at: Mapped[str | None] = mapped_column(String(24))


class Token(Table):
    """A secret that speaks for a user; only its SHA-256 is kept."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    scope: Mapped[Scope] = mapped_column(words(Scope))
    created_at: Mapped[str] = mapped_column(String(24))
    expires_at: Mapped[str | None] = mapped_column(String(24))
    revoked_at: Mapped[str | None] = mapped_column(String(24))


class Project(Table):
    """A name that runs are filed under. What is private exists for its members and admins alone."""

    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str | None] = mapped_column(ForeignKey("users.name"))
    visibility: Mapped[Visibility] = mapped_column(words(Visibility))
    created_at: Mapped[str] = mapped_column(String(24))


class ProjectMember(Table):
    __tablename__ = "project_members"

    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name"), primary_key=True, index=True)


class Dataset(Table):
    """One immutable version of named training data; its arrays lie in `datasets/<id>/`.

    sha256, bytes: of the file that it was made from. arrays_sha256, stored_bytes: of the arrays, which trainers read.
    path: of a registered file, which stays where it is; copied: whether its arrays were made from it all the same.
    A version that was removed stays here: finished jobs point to it, and its number is not given again.
    """

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    format: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(16))
    task: Mapped[str] = mapped_column(String(32))
    shape: Mapped[list[int]] = mapped_column(JSON)
    rows: Mapped[int] = mapped_column(BigInteger)
    validation_rows: Mapped[int | None] = mapped_column(BigInteger)
    columns: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    target: Mapped[str | None] = mapped_column(String(128))
    classes: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    arrays_sha256: Mapped[str] = mapped_column(String(64))
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    path: Mapped[str | None] = mapped_column(String(4096))
    copied: Mapped[bool] = mapped_column(default=True)
    description: Mapped[str] = mapped_column(String(2000))
    owner: Mapped[str | None] = mapped_column(ForeignKey("users.name"))
    created_at: Mapped[str] = mapped_column(String(24))
    removed_at: Mapped[str | None] = mapped_column(String(24))


class Run(Table):
    """The record of a training: who, what with, under which name. Its curves hang on `seq`."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_project", "project", "seq"),
        Index("ix_runs_user", "user", "seq"),
        {"sqlite_autoincrement": True},
    )

    seq: Mapped[int] = mapped_column(Serial, primary_key=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    user: Mapped[str] = mapped_column(ForeignKey("users.name"))
    tags: Mapped[dict[str, str]] = mapped_column(JSON)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[str] = mapped_column(String(24))


class Study(Table):
    """A family of jobs that together answer one question.

    `points` lists what distinguishes each of its jobs, in the order of `jobs.study_place`: it only ever grows, and a
    job is made in the transaction that adds its point. The report is stored when the study ends.
    """

    __tablename__ = "studies"
    __table_args__ = (
        CheckConstraint(
            "(finished_at IS NULL) = (status NOT IN ('succeeded', 'failed', 'cancelled'))", name="finished"
        ),
        CheckConstraint("(finished_at IS NULL) = (report IS NULL)", name="report_when_finished"),
        Index("ix_studies_project", "project", "seq"),
        Index(
            "ix_studies_open",
            "seq",
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    seq: Mapped[int] = mapped_column(Serial, primary_key=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    kind: Mapped[StudyKind] = mapped_column(words(StudyKind))
    name: Mapped[str] = mapped_column(String(200))
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    user: Mapped[str] = mapped_column(ForeignKey("users.name"))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    points: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    total_jobs: Mapped[int] = mapped_column(Integer)
    status: Mapped[JobStatus] = mapped_column(words(JobStatus))
    reason_code: Mapped[str] = mapped_column(String(32))
    reason_message: Mapped[str] = mapped_column(String(500))
    reason_since: Mapped[str] = mapped_column(String(24))
    cancel_requested_at: Mapped[str | None] = mapped_column(String(24))
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[str] = mapped_column(String(24))
    started_at: Mapped[str | None] = mapped_column(String(24))
    finished_at: Mapped[str | None] = mapped_column(String(24))


class Job(Table):
    """A run's place in the queue: the spec, the status, and who may write for it now."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "(finished_at IS NULL) = (status NOT IN ('succeeded', 'failed', 'cancelled'))", name="finished"
        ),
        CheckConstraint("(status = 'running') = (worker IS NOT NULL)", name="worker_while_running"),
        CheckConstraint("(error_code IS NOT NULL) = (status = 'failed')", name="error_when_failed"),
        CheckConstraint("cancel_requested_at IS NOT NULL OR status <> 'cancelled'", name="cancelled_on_request"),
        CheckConstraint("attempt >= 0 AND attempt <= max_attempts + excused_attempts", name="attempts"),
        CheckConstraint("(study_id IS NULL) = (study_place IS NULL)", name="place_in_study"),
        Index("ux_jobs_study", "study_id", "study_place", unique=True),
        Index("ix_jobs_status", "status", "seq"),
        Index(
            "ix_jobs_claim",
            "user",
            text("priority DESC"),
            "seq",
            sqlite_where=text("status = 'queued'"),
            postgresql_where=text("status = 'queued'"),
        ),
        Index(
            "ix_jobs_worker",
            "worker",
            sqlite_where=text("status = 'running'"),
            postgresql_where=text("status = 'running'"),
        ),
    )

    seq: Mapped[int] = mapped_column(ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    task: Mapped[str] = mapped_column(String(32))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    plan: Mapped[dict[str, Any]] = mapped_column(JSON)
    warnings: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    priority: Mapped[int] = mapped_column(Integer)
    threads: Mapped[int] = mapped_column(Integer)
    gpus: Mapped[float] = mapped_column(Double)
    memory_mib: Mapped[int | None] = mapped_column(Integer)
    max_attempts: Mapped[int] = mapped_column(Integer)

    status: Mapped[JobStatus] = mapped_column(words(JobStatus))
    reason_code: Mapped[str] = mapped_column(String(32))
    reason_message: Mapped[str] = mapped_column(String(500))
    reason_since: Mapped[str] = mapped_column(String(24))
    cancel_requested_at: Mapped[str | None] = mapped_column(String(24))
    pause_requested_at: Mapped[str | None] = mapped_column(String(24))
    retry_of: Mapped[str | None] = mapped_column(String(36))
    study_id: Mapped[str | None] = mapped_column(ForeignKey("studies.id"))
    study_place: Mapped[int | None] = mapped_column(Integer)
    error_code: Mapped[EndReason | None] = mapped_column(words(EndReason))
    error_message: Mapped[str | None] = mapped_column(String(2000))
    exit_code: Mapped[int | None] = mapped_column(Integer)
    signal: Mapped[int | None] = mapped_column(Integer)
    started_at: Mapped[str | None] = mapped_column(String(24))
    finished_at: Mapped[str | None] = mapped_column(String(24))

    # The fence: only the worker named here may write for the job, and only for this attempt.
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    # Attempts ended by a drain or a pause: they took a number but do not count against max_attempts.
    excused_attempts: Mapped[int] = mapped_column(Integer, default=0)
    worker: Mapped[str | None] = mapped_column(String(36))
    boot: Mapped[str | None] = mapped_column(String(36))
    lease_until: Mapped[int | None] = mapped_column(BigInteger)
    not_before: Mapped[int] = mapped_column(BigInteger, default=0)
    checkpoint_step: Mapped[int] = mapped_column(BigInteger, default=0)

    # Where training stands: updated in the same statement that guards a flush of points.
    step: Mapped[int] = mapped_column(BigInteger, default=0)
    active_seconds: Mapped[float] = mapped_column(Double, default=0.0)


class OutsideRun(Table):
    """A run without a job: a script somewhere trains, and says how it goes. It shares `seq` with its run."""

    __tablename__ = "outside_runs"
    __table_args__ = (CheckConstraint("(finished_at IS NULL) = (status = 'running')", name="finished"),)

    seq: Mapped[int] = mapped_column(ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    status: Mapped[JobStatus] = mapped_column(words(JobStatus))
    batch_size: Mapped[int | None] = mapped_column(BigInteger)
    train_samples: Mapped[int | None] = mapped_column(BigInteger)
    # Unix time that the times of its points count from: the earliest that it told, or when it began.
    zero: Mapped[float] = mapped_column(Double)
    # Unix time at which the script was last heard of.
    heard: Mapped[float] = mapped_column(Double)
    active_seconds: Mapped[float] = mapped_column(Double, default=0.0)
    finished_at: Mapped[str | None] = mapped_column(String(24))


class JobDependency(Table):
    """A job that waits until another one has succeeded."""

    __tablename__ = "job_dependencies"

    job: Mapped[int] = mapped_column(ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True)
    needs: Mapped[int] = mapped_column(ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True, index=True)


class Checkpoint(Table):
    """A state of a run, or its weights alone; the files lie in `jobs/<id>/checkpoints/`.

    `sha256` is of the manifest, `weights_sha256` and `bytes` are of the weights.
    """

    __tablename__ = "checkpoints"

    job: Mapped[int] = mapped_column(ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    epoch: Mapped[float] = mapped_column(Double)
    active_seconds: Mapped[float] = mapped_column(Double)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    resumable: Mapped[bool] = mapped_column()
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    is_best: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[str] = mapped_column(String(24))


class MemoryLimit(Table):
    """The samples of the largest micro-batch that may fit a device, since a larger one did not: see `memory`."""

    __tablename__ = "memory_limits"

    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    device: Mapped[str] = mapped_column(String(200), primary_key=True)
    samples: Mapped[int] = mapped_column(Integer)


class Usage(Table):
    """How much of the box a user has had: a sum of slot-seconds that halves with time, as of `at` seconds (Unix)."""

    __tablename__ = "usage"

    user: Mapped[str] = mapped_column(ForeignKey("users.name"), primary_key=True)
    slot_seconds: Mapped[float] = mapped_column(Double)
    at: Mapped[float] = mapped_column(Double)


class Attempt(Table):
    """One execution of a job by a worker."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint("(finished_at IS NULL) = (ended IS NULL)", name="finished"),
        Index(
            "ux_attempts_open",
            "job",
            unique=True,
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
    )

    job: Mapped[int] = mapped_column(ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker: Mapped[str] = mapped_column(String(36))
    boot: Mapped[str] = mapped_column(String(36))
    pid: Mapped[int | None] = mapped_column(Integer)
    pid_started: Mapped[float | None] = mapped_column(Double)
    devices: Mapped[list[str]] = mapped_column(JSON)
    spool_offset: Mapped[int] = mapped_column(BigInteger, default=0)
    started_ms: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[str] = mapped_column(String(24))
    finished_at: Mapped[str | None] = mapped_column(String(24))
    ended: Mapped[str | None] = mapped_column(String(16))


class JobEvent(Table):
    """What happened to a job, written in the transaction that made it happen."""

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job", "job", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    job: Mapped[int] = mapped_column(ForeignKey("jobs.seq", ondelete="CASCADE"))
    at: Mapped[str] = mapped_column(String(24))
    code: Mapped[str] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(String(500))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class WorkerRow(Table):
    """A worker process and what it has to give; the row says nothing about who may write for a job.

    memory_mib: given out to jobs together; trainer_memory_mib: that one of them may have.
    out_of_service: what ended attempts still hold, since processes of theirs cannot be ended.
    """

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    boot: Mapped[str] = mapped_column(String(36))
    pid: Mapped[int] = mapped_column(Integer)
    slots: Mapped[int] = mapped_column(Integer)
    devices: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    memory_mib: Mapped[int | None] = mapped_column(Integer)
    draining: Mapped[bool] = mapped_column(default=False)
    lease_until: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[str] = mapped_column(String(24))
    trainer_memory_mib: Mapped[int | None] = mapped_column(Integer)
    out_of_service: Mapped[list[dict[str, Any]]] = mapped_column(JSON, server_default="[]")


class Series(Table):
    """One curve of one run and its summary, so that a list of runs never touches a point.

    `first`, `last`, `min` and `max` are NULL for NaN or for no such value; min and max are over finite values.
    """

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("run", "name"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    run: Mapped[int] = mapped_column(ForeignKey("runs.seq", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(128))
    direction: Mapped[Direction] = mapped_column(words(Direction))
    count: Mapped[int] = mapped_column(BigInteger, default=0)
    non_finite: Mapped[int] = mapped_column(BigInteger, default=0)
    first: Mapped[float | None] = mapped_column(Double)
    first_step: Mapped[int | None] = mapped_column(BigInteger)
    last: Mapped[float | None] = mapped_column(Double)
    last_step: Mapped[int | None] = mapped_column(BigInteger)
    min: Mapped[float | None] = mapped_column(Double)
    min_step: Mapped[int | None] = mapped_column(BigInteger)
    max: Mapped[float | None] = mapped_column(Double)
    max_step: Mapped[int | None] = mapped_column(BigInteger)


class Point(Table):
    """One logged value. `position` counts from 0 in the order of logging; a NULL `value` is NaN.

    `time` is in seconds of active training since the run's first step began. It and `step` follow from what is stored:
    a small whole number takes a quarter of a large one's room, and nothing at all where it is 0 or 1.
    """

    __tablename__ = "points"
    __table_args__ = {"sqlite_with_rowid": False}

    series: Mapped[int] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # How far the step is ahead of the position: 1 all along where each step is logged.
    lead: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float | None] = mapped_column(Double)
    # Ten-thousandths of a second.
    ticks: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger, Computed("position + lead", persisted=False))
    time: Mapped[float] = mapped_column(Double, Computed("ticks / 10000.0", persisted=False))


class Rollup(Table):
    """A packed block of summaries: at level 1 each stands for 16 positions of a series, eight make one of the next.

    What `data` holds is for `curves.rollups` to know; of level 1 it is compressed.
    """

    __tablename__ = "rollups"
    __table_args__ = {"sqlite_with_rowid": False}

    series: Mapped[int] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), primary_key=True)
    level: Mapped[int] = mapped_column(Integer, primary_key=True)
    block: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class IdempotencyKey(Table):
    """What a client's key made the first time, for 24 hours."""

    __tablename__ = "idempotency_keys"

    user: Mapped[str] = mapped_column(ForeignKey("users.name"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    resource: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[str] = mapped_column(String(24), index=True)
