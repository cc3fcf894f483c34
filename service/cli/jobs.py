"""Commands about jobs: submit, list, show and watch."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import progress, screen, spec_file
from service.cli.connection import JobId, connect, resolve
from service.states import JobStatus

if TYPE_CHECKING:
    from service.client import Client


def submit(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A JSON or YAML file, or - for what comes in.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PARAM=VALUE", help="Set one value, as in hyperparameters.learning_rate=0.01."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch the job until it ends; exit 1 unless it succeeds.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and plan the job without submitting it.")] = False,
    probe: Annotated[bool, typer.Option("--probe", help="With --dry-run: train a few steps and measure them.")] = False,
    as_json: screen.AsJson = False,
) -> None:
    """Submit a job."""
    asked = spec_file.read(spec)
    spec_file.put(asked, settings or [])
    with connect(patience_seconds=progress.PATIENCE_SECONDS if wait else 1.0) as client:
        answer = client.submit(asked, dry_run=dry_run, probe=probe)
        if wait and not dry_run:
            if not as_json:
                announce(answer)
            ended = progress.follow(client, [answer["id"]], quiet=as_json)
            if as_json:
                screen.say_json(ended[0])
            raise typer.Exit(progress.exit_code(ended))
    if as_json:
        screen.say_json(answer)
    elif dry_run:
        _describe(answer)
        if probe:
            _describe_probe(answer["probe"])
    else:
        announce(answer)
        screen.say(f"follow it with: trainbox watch {answer['id']}")


def announce(job: dict[str, Any]) -> None:
    """Tells of a new job and what it will do."""
    screen.say(f"{job['id']}  {job['name']}  ({job['status']})")
    _describe(job)


def _describe(answer: dict[str, Any]) -> None:
    screen.say(f"plan: {plan_sentence(answer['plan'])}")
    for warning in answer["warnings"]:
        screen.say(f"warning: {warning['param']}: {warning['message']}")


def _describe_probe(measured: dict[str, Any]) -> None:
    screen.say(
        f"probe: {screen.number(1000 * measured['seconds_per_step'])} ms a step over "
        f"{screen.counted(measured['steps'], 'step')}, {screen.counted(measured['parameters'], 'parameter')}, "
        f"at most {screen.number(measured['peak_memory_mib'])} MiB of memory"
    )


def plan_sentence(plan: dict[str, Any]) -> str:
    """What the run will do, in words and numbers."""
    last = plan["last_batch_samples"]
    smaller = f", {last} in the last" if last != plan["batch_size"] else ""
    sentence = (
        f"{screen.counted(plan['total_steps'], 'step')} in {screen.number(plan['epochs'])} epochs of "
        f"{screen.counted(plan['steps_per_epoch'], 'step')}, {screen.counted(plan['batch_size'], 'sample')} a step"
        f"{smaller}; {screen.count(plan['train_samples'])} samples to train on, "
        f"{screen.count(plan['validation_samples'])} held back, {screen.counted(plan['validations'], 'validation')}"
    )
    if plan.get("estimated_seconds") is not None:
        sentence += f"; about {screen.duration(plan['estimated_seconds'])}"
    return sentence


def list_jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    project: Annotated[str | None, typer.Option(help="Only jobs of this project.")] = None,
    user: Annotated[str | None, typer.Option(help="Only jobs of this user.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="The newest so many.")] = 20,
    as_json: screen.AsJson = False,
) -> None:
    """List jobs, newest first."""
    wanted = {"status": status.value if status else None, "project": project, "user": user, "limit": limit}
    with connect() as client:
        answer = client.get("/v1/jobs", **wanted)
        if as_json:
            screen.say_json(answer)
            return
        losses = _losses(client, wanted, {job["id"] for job in answer["data"]})
    if not answer["data"]:
        screen.say("no jobs")
        return
    rows = [
        (
            job["id"],
            job["name"],
            job["status"],
            job["user"],
            _steps(job),
            screen.number(losses.get(job["id"])),
            screen.age(job["created_at"]),
        )
        for job in answer["data"]
    ]
    columns = ("id", "name", "status", "user", "step", "train_loss", "age")
    screen.console().print(screen.table(columns, rows, right=("step", "train_loss", "age")))
    if answer["has_more"]:
        screen.complain(f"there are more than {limit}: ask with --limit, --status, --project or --user")


def _losses(client: "Client", wanted: dict[str, Any], jobs: set[str]) -> dict[str, Any]:
    """The last training losses of these jobs. Among the runs, the newest first, are others that no job has left."""
    found: dict[str, Any] = {}
    for run in client.pages("/v1/runs", **wanted | {"limit": 200}):
        if len(found) == len(jobs) or run["id"] < min(jobs):
            break
        if run["id"] in jobs:
            found[run["id"]] = run["metrics"].get("train_loss", {}).get("last")
    return found


def _steps(job: dict[str, Any]) -> str:
    return f"{(job['progress'] or {}).get('step', 0)}/{job['plan']['total_steps']}"


def show(job_id: JobId, as_json: screen.AsJson = False) -> None:
    """Show one job: status, plan, metrics, warnings, error."""
    with connect() as client:
        job = client.job(resolve(client, job_id))
        if as_json:
            screen.say_json(job)
            return
        run = client.run(job["id"])
    error = job["error"]
    screen.facts(
        [
            ("id", job["id"]),
            ("name", job["name"]),
            ("project", f"{job['project']}, submitted by {job['user']} {screen.age(job['created_at'])} ago"),
            ("status", f"{job['status']}: {job['status_reason']['message']}"),
            ("error", error and f"{error['code']}: {error['message']}"),
            ("retry of", job["retry_of"]),
            ("data set", job["spec"]["dataset"]),
            ("plan", plan_sentence(job["plan"])),
            ("progress", f"step {_steps(job)}, attempt {job['attempt']}" if job["attempt"] else None),
            ("time", screen.duration(run["duration_seconds"]) if job["started_at"] else None),
        ]
    )
    for warning in job["warnings"]:
        screen.say(f"warning: {warning['param']}: {warning['message']}")
    if run["metrics"]:
        screen.say("")
        screen.console().print(metrics_table(run["metrics"]))


def metrics_table(metrics: dict[str, dict[str, Any]]) -> Any:
    rows = [
        (
            name,
            *(screen.number(metric[which]) for which in ("first", "last", "best")),
            screen.number(metric["best_step"]),
            screen.count(metric["count"]),
        )
        for name, metric in metrics.items()
    ]
    columns = ("metric", "first", "last", "best", "at step", "points")
    return screen.table(columns, rows, right=columns[1:])


def watch(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="One job or several.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON a job and look.")] = False,
) -> None:
    """Watch jobs until they end: steps, losses, time left. Exit 1 unless all succeed."""
    with connect(patience_seconds=progress.PATIENCE_SECONDS) as client:
        ids = list(dict.fromkeys(resolve(client, job_id) for job_id in job_ids))
        ended = progress.follow(client, ids, as_json=as_json)
    raise typer.Exit(progress.exit_code(ended))
