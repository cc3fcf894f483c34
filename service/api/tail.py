"""A job's log, followed from attempt to attempt until the job ends."""

from pathlib import Path

from sqlalchemy.orm import Session

from service import job_logs, jobs
from service.api.streams import Look, Manners
from service.states import TERMINAL, JobStatus
from service.users import Principal

LOG_BYTES = 1 << 17
MANNERS = Manners(alive=b"", farewell=b"\n--- the service stops ---\n")


class Tail:
    """One reader's way through a log, byte for byte. alone: of this attempt, and not of those that follow it."""

    def __init__(
        self, jobs_path: Path, principal: Principal, job_id: str, attempt: int, offset: int, *, alone: bool
    ) -> None:
        self._jobs_path, self._principal, self._job_id = jobs_path, principal, job_id
        self._attempt, self._offset, self._alone = attempt, offset, alone
        self._in_line = False

    def look(self, session: Session) -> Look:
        # Asked before the file is read: what a trainer wrote before it ended is there when it has ended.
        status = jobs.status(session, self._principal, self._job_id)
        newest = jobs.newest_attempt(session, self._principal, self._job_id, None) or 0
        log = jobs.attempt_folder(self._jobs_path, self._job_id, self._attempt) / "log"
        part = job_logs.read(log, self._offset, LOG_BYTES)
        self._offset = part.next_offset
        if part.content:
            self._in_line = not part.content.endswith(b"\n")
        if part.more:
            return Look(part.content, more=True, over=False)
        if self._alone:
            return Look(part.content, more=False, over=newest > self._attempt or status is not JobStatus.RUNNING)
        if newest > self._attempt:
            return Look(part.content + self._turn(), more=True, over=False)
        return Look(part.content, more=False, over=status in TERMINAL)

    def _turn(self) -> bytes:
        """To the attempt that follows, with a line that says so."""
        break_line = "\n" if self._in_line else ""
        self._attempt, self._offset, self._in_line = self._attempt + 1, 0, False
        return f"{break_line}--- attempt {self._attempt} ---\n".encode()
