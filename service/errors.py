"""What can go wrong, each with its facts and one sentence. HTTP statuses are not known here."""

from dataclasses import asdict, dataclass
from pathlib import Path

from service.states import JobStatus, Scope


@dataclass(frozen=True)
class FieldProblem:
    """One thing wrong with one input: `param` is its dotted path, `message` never holds the value."""

    param: str
    code: str
    message: str
    hint: str | None = None

    def as_dict(self) -> dict[str, str]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class ServiceError(Exception):
    """The root: `str(error)` is a sentence for the user."""


class InvalidInput(ServiceError):
    """The input was understood and is wrong; `problems` names every field."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        count = len(problems)
        super().__init__(f"{count} problem{'' if count == 1 else 's'} in the input, see errors")
        self.problems = problems


class NotFound(ServiceError):
    """It does not exist, or not for this user: the two look the same."""

    def __init__(self, kind: str, instead: str = "") -> None:
        """instead: what there is, where whoever asks may see it."""
        super().__init__(f"no such {kind}{instead and f': {instead}'}")
        self.kind = kind


class IllegalMove(ServiceError):
    def __init__(self, job_id: str, status: JobStatus, target: JobStatus, kind: str = "job") -> None:
        super().__init__(f"{kind} {job_id} is {status.value} and cannot become {target.value}")
        self.job_id, self.status, self.target = job_id, status, target


class RunOver(ServiceError):
    """A run that takes no more points: a script has ended it, or a job's trainer alone writes to it."""

    def __init__(self, run_id: str, status: JobStatus | None) -> None:
        of_job = "belongs to a job: its trainer alone writes to it, and it is deleted with the job"
        super().__init__(f"run {run_id} {of_job if status is None else f'is {status.value}'}")
        self.run_id, self.status = run_id, status


class NotNow(ServiceError):
    """The job's status forbids what is asked. act: as in `be deleted`; condition: as in `when it is over`."""

    def __init__(self, job_id: str, status: JobStatus, act: str, condition: str, kind: str = "job") -> None:
        super().__init__(f"{kind} {job_id} is {status.value}: it can {act} only {condition}")
        self.job_id, self.status = job_id, status


class NoResult(ServiceError):
    """A job that failed or was cancelled has no result."""

    def __init__(self, job_id: str, status: JobStatus) -> None:
        super().__init__(f"job {job_id} is {status.value} and has no result")
        self.job_id, self.status = job_id, status


class NoReport(ServiceError):
    """A study is not over, and there is nothing to draw yet."""

    def __init__(self, study_id: str, status: JobStatus) -> None:
        super().__init__(f"study {study_id} is {status.value} and has no report yet")
        self.study_id, self.status = study_id, status


class LeaseLost(ServiceError):
    """The attempt is over: another worker holds the job, or the job has ended."""

    def __init__(self, job_id: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} of job {job_id} is over")
        self.job_id, self.attempt = job_id, attempt


class InsufficientScope(ServiceError):
    def __init__(self, needed: Scope) -> None:
        super().__init__(f"this needs a token with the scope {needed.value}")
        self.needed = needed


class NotOwner(ServiceError):
    """Visible to the team, but changed only by its owner or an admin."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"this {kind} is not yours: only its owner or an admin may change it")
        self.kind = kind


class AlreadyExists(ServiceError):
    def __init__(self, kind: str, *, gone: bool = False) -> None:
        """gone: its name is not given again, although it is no longer there."""
        last = f"there was a {kind} of this name, and it is not given to another"
        super().__init__(last if gone else f"there is a {kind} of this name already")
        self.kind = kind


class KeyReused(ServiceError):
    """The Idempotency-Key came before, with another body."""

    def __init__(self, param: str) -> None:
        super().__init__("this Idempotency-Key was used within 24 hours for a different request")
        self.problems = [FieldProblem(param, "reused", "it was used for a different request")]


class MadeAndGone(ServiceError):
    """The Idempotency-Key came before, and what it made has been deleted since, or hidden."""

    def __init__(self) -> None:
        super().__init__("what this Idempotency-Key has made is no longer there: take another key to make it again")


class QueueFull(ServiceError):
    def __init__(self, limit: int, whose: str) -> None:
        super().__init__(f"{limit} jobs of {whose} are queued, the most allowed: wait until some have started")
        self.limit = limit


class SchemaMismatch(ServiceError):
    """The database is not of this program's version; the sentence names what to run."""


class DatabaseDamaged(ServiceError):
    """SQLite cannot read the file; nothing was changed."""


class DatabaseUnusable(ServiceError):
    """SQLite cannot read or write the file now, which says nothing against what is in it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be used now ({reason}): nothing is damaged, try again when that is over")
        self.path = path


class HomeUnusable(ServiceError):
    def __init__(self, home: Path, reason: str) -> None:
        super().__init__(f"{home} cannot hold the service's data ({reason}): set TRAINBOX_HOME to a folder that can")
        self.home = home


class AlreadyRunning(ServiceError):
    def __init__(self, role: str, pid: int | None) -> None:
        holder = f" (pid {pid})" if pid else ""
        super().__init__(f"another trainbox {role} already uses this home{holder}: stop it first")
        self.role, self.pid = role, pid


class DiskFull(ServiceError):
    """Nothing new is taken in before there is room again."""


class QuotaExceeded(ServiceError):
    def __init__(self, mib: int) -> None:
        super().__init__(f"the data sets of one user may take {mib} MiB of disk: delete versions that nobody needs")
        self.mib = mib


class BuiltIn(ServiceError):
    def __init__(self) -> None:
        super().__init__("this data set comes with the program and stays as it is: take another name")


class DatasetInUse(ServiceError):
    def __init__(self, jobs: int) -> None:
        waiting = "1 job that is not over needs" if jobs == 1 else f"{jobs} jobs that are not over need"
        super().__init__(f"{waiting} this data set")
        self.jobs = jobs


class Stopping(ServiceError):
    """The service goes, and what was asked for was not done."""

    def __init__(self) -> None:
        super().__init__("the service is stopping: ask again when it is back")


class CopyFailed(ServiceError):
    """A database was not copied or put back; what was there is as it was."""


class WrongFile(CopyFailed):
    """The file that was named is none to read a database from, or to write one to: another one was meant."""


class UnsafeBind(ServiceError):
    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} is reachable from other machines and the traffic is not encrypted; "
            "say --allow-remote if that is meant, and put a TLS proxy in front"
        )
        self.host = host


class ErrandsBusy(ServiceError):
    def __init__(self) -> None:
        super().__init__("as many predictions and probes as the service does at a time are under way: try again")


class ErrandFailed(ServiceError):
    """A prediction or a probe came to no answer."""
