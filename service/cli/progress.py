"""Following jobs until they end: bars on a terminal, lines elsewhere, JSON for programs."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.cli import screen
from service.states import TERMINAL, JobStatus

if TYPE_CHECKING:
    from service.client import Client

PATIENCE_SECONDS = 30.0  # a command that follows a job outlives a restart of the service
LOOK_SECONDS = 0.4
LINES_A_JOB = 20
LINE_SECONDS = 30.0


@dataclass(frozen=True)
class Look:
    """One job at one moment."""

    job: dict[str, Any]
    metrics: dict[str, dict[str, Any]]

    @property
    def over(self) -> bool:
        return JobStatus(self.job["status"]) in TERMINAL

    @property
    def step(self) -> int:
        return int((self.job["progress"] or {}).get("step") or 0)

    @property
    def total(self) -> int:
        return int(self.job["plan"]["total_steps"])

    def values(self) -> str:
        """The last loss and the last validation, as in `train_loss 0.031  val_loss 0.09`."""
        shown = [name for name in self.metrics if name == "train_loss" or name in FEW or name.startswith("val_r2")]
        return "  ".join(f"{name} {screen.number(self.metrics[name]['last'])}" for name in shown)

    def eta(self) -> str:
        seconds = (self.job["progress"] or {}).get("eta_seconds")
        return "" if seconds is None or self.over else f"{screen.duration(seconds)} left"

    def state(self) -> str:
        status, reason = self.job["status"], self.job["status_reason"]["message"]
        return str(status if status in ("running", "succeeded") else f"{status}: {reason}")


FEW = ("val_loss", "val_accuracy", "val_mae")


def follow(client: "Client", ids: list[str], *, as_json: bool = False, quiet: bool = False) -> list[dict[str, Any]]:
    """Shows the jobs until all have ended, and returns them."""
    looks = _looks(client, ids)
    if quiet:
        last = list(looks)[-1]
    elif as_json:
        last = _as_json(looks)
    elif sys.stdout.isatty():
        last = _as_bars(looks)
    else:
        last = _as_lines(looks)
    return [look.job for look in last]


def exit_code(jobs: list[dict[str, Any]]) -> int:
    return 0 if all(job["status"] == "succeeded" for job in jobs) else 1


def _looks(client: "Client", ids: list[str]) -> Iterator[list[Look]]:
    """All jobs, again and again; the last time all have ended."""
    ended: dict[str, Look] = {}
    while True:
        looks = [ended.get(job_id) or _look(client, job_id) for job_id in ids]
        ended = {look.job["id"]: look for look in looks if look.over}
        yield looks
        if len(ended) == len(ids):
            return
        time.sleep(LOOK_SECONDS)


def _look(client: "Client", job_id: str) -> Look:
    # The job first: once it has ended, its curves are whole.
    job = client.job(job_id)
    return Look(job, client.run(job_id)["metrics"])


def _as_json(stream: Iterator[list[Look]]) -> list[Look]:
    looks: list[Look] = []
    for looks in stream:
        for look in looks:
            last = {name: metric["last"] for name, metric in look.metrics.items()}
            screen.say_json(
                {"id": look.job["id"], "status": look.job["status"], "step": look.step, "metrics": last}, lines=True
            )
    return looks


def _as_lines(stream: Iterator[list[Look]]) -> list[Look]:
    """A line when a job changes its state, at each twentieth of its steps, and every half minute."""
    looks: list[Look] = []
    told: dict[str, tuple[Any, ...]] = {}
    moments: dict[str, float] = {}
    for looks in stream:
        for look in looks:
            job_id = look.job["id"]
            news = (look.state(), look.step * LINES_A_JOB // look.total)
            late = not look.over and time.monotonic() - moments.get(job_id, 0.0) > LINE_SECONDS
            if told.get(job_id) != news or late:
                told[job_id], moments[job_id] = news, time.monotonic()
                screen.say(_line(look))
    return looks


def _line(look: Look) -> str:
    parts = (look.job["id"], look.state(), f"step {look.step}/{look.total}", look.values(), look.eta())
    return "  ".join(part for part in parts if part)


def _as_bars(stream: Iterator[list[Look]]) -> list[Look]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}", markup=False),
        TextColumn("{task.fields[state]}", markup=False),
    )
    looks: list[Look] = []
    bars: dict[str, Any] = {}
    with Progress(*columns, console=screen.console()) as progress:
        for looks in stream:
            for look in looks:
                job_id = look.job["id"]
                if job_id not in bars:
                    name = screen.clean(look.job["name"])
                    bars[job_id] = progress.add_task(name, total=look.total, values="", state="")
                progress.update(
                    bars[job_id],
                    completed=look.step,
                    values=screen.clean(look.values()),
                    state=screen.clean(look.eta() or look.state()),
                )
    return looks
