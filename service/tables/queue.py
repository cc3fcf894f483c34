"""What is trained: runs, studies, and the jobs, attempts and workers of the queue."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.states import EndReason, JobStatus, StudyKind
from service.tables.base import Serial, Table, words


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
