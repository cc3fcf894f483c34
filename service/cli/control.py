"""Commands that change a job: cancel, pause, resume, retry, clone, set and delete."""

from typing import Annotated, Any

import typer

from service.cli import jobs, screen, spec_file
from service.cli.connection import JobId, connect, resolve


def cancel(job_id: JobId, as_json: screen.AsJson = False) -> None:
    """Stop a job, queued, paused or running."""
    _act(job_id, "cancel", as_json)


def pause(job_id: JobId, as_json: screen.AsJson = False) -> None:
    """Keep a job's state and free its slot; `resume` goes on at the very step."""
    _act(job_id, "pause", as_json)


def resume(job_id: JobId, as_json: screen.AsJson = False) -> None:
    """Put a paused job back into the queue."""
    _act(job_id, "resume", as_json)


def _act(job_id: str, what: str, as_json: bool) -> None:
    with connect() as client:
        job = client.post(f"/v1/jobs/{resolve(client, job_id)}/{what}")
    _tell(job, as_json)


def _tell(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.say_json(job)
    else:
        screen.say(f"{job['id']} is {job['status']}: {job['status_reason']['message']}")


def retry(job_id: JobId, as_json: screen.AsJson = False) -> None:
    """Submit a failed or cancelled job again, as a new one."""
    with connect() as client:
        job = client.post(f"/v1/jobs/{resolve(client, job_id)}/retry")
    if as_json:
        screen.say_json(job)
    else:
        jobs.announce(job)


def clone(
    job_id: JobId,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PARAM=VALUE", help="Change one value, as in hyperparameters.seed=2; null removes it."
        ),
    ] = None,
    as_json: screen.AsJson = False,
) -> None:
    """Submit a changed copy of a job, and tell what each change means."""
    patch: dict[str, Any] = {}
    spec_file.put(patch, settings or [])
    with connect() as client:
        job = client.post(f"/v1/jobs/{resolve(client, job_id)}/clone", patch)
    if as_json:
        screen.say_json(job)
        return
    jobs.announce(job)
    for change in job["changes"]:
        old, new = (screen.value(change[which]) for which in ("from", "to"))
        screen.say(f"change: {change['param']}: {old} -> {new}: {change['meaning']}")


def change(
    job_id: JobId,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    priority: Annotated[int | None, typer.Option(help="Another priority, while the job waits; higher first.")] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY=VALUE", help="Set a tag; KEY= without a value removes it."),
    ] = None,
    as_json: screen.AsJson = False,
) -> None:
    """Change a job's name, priority or tags."""
    given = {"name": name, "priority": priority, "tags": _tags(tags or []) or None}
    wanted = {field: value for field, value in given.items() if value is not None}
    if not wanted:
        raise screen.WrongUse("say what to change: --name, --priority or --tag")
    with connect() as client:
        job = client.patch(f"/v1/jobs/{resolve(client, job_id)}", wanted)
    if as_json:
        screen.say_json(job)
    else:
        tagged = "".join(f"  {key}={value}" for key, value in job["tags"].items())
        screen.say(f"{job['id']}  {job['name']}  priority {job['priority']}{tagged}")


def _tags(settings: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not key or not equals:
            raise screen.WrongUse(f"{setting}: write KEY=VALUE, or KEY= to remove the tag")
        found[key] = text or None
    return found


def delete(job_id: JobId, as_json: screen.AsJson = False) -> None:
    """Delete a job that is over, with its run, curves, logs and checkpoints; or the run of a script."""
    with connect() as client:
        run = client.run(resolve(client, job_id, kind="run"))
        found = run["id"]
        client.delete(f"/v1/{'runs' if run['job_id'] is None else 'jobs'}/{found}")
    if as_json:
        screen.say_json({"id": found, "deleted": True})
    else:
        screen.say(f"{found} is deleted, with its curves" + ("" if run["job_id"] is None else ", logs and checkpoints"))
