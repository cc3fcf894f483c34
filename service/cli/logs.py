"""The command that prints what a job wrote."""

import time
from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import progress, screen
from service.cli.connection import JobId, connect, resolve
from service.states import TERMINAL, JobStatus

if TYPE_CHECKING:
    from service.client import Client

FOLLOW_SECONDS = 0.5


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Of this attempt alone; else of the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print objects with the text, one a line.")] = False,
) -> None:
    """Print what a job wrote."""
    with connect(patience_seconds=progress.PATIENCE_SECONDS if follow else 1.0) as client:
        found = resolve(client, job_id)
        log = Log(client, found)
        while True:
            # Looked at before the log: what a job wrote before it ended is there when it has ended.
            job = client.job(found)
            log.show(attempt or job["attempt"], as_json=as_json)
            if not follow or JobStatus(job["status"]) in TERMINAL or job["attempt"] > (attempt or job["attempt"]):
                return
            time.sleep(FOLLOW_SECONDS)


class Log:
    """How far a job's log has been shown; each attempt writes one of its own."""

    def __init__(self, client: "Client", job_id: str) -> None:
        self._client, self._job_id = client, job_id
        self._attempt = 0
        self._begin(0)

    def show(self, attempt: int, *, as_json: bool) -> None:
        """Prints what is new; a long log comes in pieces."""
        if not attempt:
            return
        if attempt != self._attempt:
            if self._attempt:
                self._fetch(as_json=as_json)
                screen.complain(f"attempt {attempt}:")
            self._begin(attempt)
        self._fetch(as_json=as_json)

    def _begin(self, attempt: int) -> None:
        self._attempt, self._offset = attempt, 0
        # A piece may end within a character.
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def _fetch(self, *, as_json: bool) -> None:
        while True:
            content, after = self._client.logs(self._job_id, self._offset, self._attempt)
            text = self._decoder.decode(content)
            if text and as_json:
                screen.say_json({"attempt": self._attempt, "text": text, "next_offset": after}, lines=True)
            elif text:
                typer.echo(screen.clean(text), nl=False)
            if after <= self._offset:
                return
            self._offset = after
