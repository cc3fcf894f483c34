"""Commands that begin a study: which learning rate, which batch size, which of these."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.cli import progress, screen, spec_file, studies
from service.cli.connection import connect
from service.cli.studies import Save

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="The base: a JSON or YAML file, or - for what comes in.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PARAM=VALUE", help="Set one value of the base, as in hyperparameters.epochs=20."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the report; exit 1 unless the study succeeds.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and count the jobs without creating any.")]
Named = Annotated[str | None, typer.Option("--name", help="A label for the study.")]
Low = Annotated[float, typer.Option(help="The lowest learning rate of a range test.")]
High = Annotated[float, typer.Option(help="The highest learning rate of a range test.")]
Count = Annotated[int, typer.Option(help="How many learning rates it tries.")]
Steps = Annotated[int, typer.Option(help="Steps of each of its runs.")]


def lr_range(
    spec: Spec,
    settings: Settings = None,
    low: Low = 1e-5,
    high: High = 10.0,
    count: Count = 16,
    steps: Steps = 100,
    seeds: Annotated[int, typer.Option(help="Runs at each rate.")] = 2,
    name: Named = None,
    wait: Wait = False,
    save: Save = None,
    dry_run: DryRun = False,
    as_json: screen.AsJson = False,
) -> None:
    """Find a learning rate from the first steps at many."""
    asked = {"learning_rates": {"low": low, "high": high, "count": count}, "steps": steps, "seeds": seeds}
    _begin("lr_range", spec, settings, name, asked, save, wait=wait, dry_run=dry_run, as_json=as_json)


def batch_size(
    spec: Spec,
    sizes: Annotated[str, typer.Option(metavar="8,64,full", help="The batch sizes, separated by commas.")],
    target: Annotated[str, typer.Option(metavar="METRIC=VALUE", help="What counts as having learned enough.")],
    settings: Settings = None,
    learning_rate: Annotated[
        Literal["fixed", "linear", "sqrt", "range_test"],
        typer.Option(help="Keep the learning rate, scale it, or find one for each size."),
    ] = "fixed",
    seeds: Annotated[int, typer.Option(help="Runs of each size.")] = 1,
    low: Low = 1e-5,
    high: High = 10.0,
    count: Count = 16,
    steps: Steps = 100,
    name: Named = None,
    wait: Wait = False,
    save: Save = None,
    dry_run: DryRun = False,
    as_json: screen.AsJson = False,
) -> None:
    """Compare batch sizes: time, steps and epochs to a target, and the best value."""
    metric, equals, value = target.partition("=")
    if not equals:
        raise screen.WrongUse(f"{target}: write METRIC=VALUE, as in val_accuracy=0.95")
    asked: dict[str, Any] = {
        "batch_sizes": [_value(size) for size in sizes.split(",")],
        "target": {"metric": metric, "value": _value(value)},
        "learning_rate": learning_rate,
        "seeds": seeds,
    }
    if learning_rate == "range_test":
        asked |= {"learning_rates": {"low": low, "high": high, "count": count}, "steps": steps}
    _begin("batch_size", spec, settings, name, asked, save, wait=wait, dry_run=dry_run, as_json=as_json)


def grid(
    spec: Spec,
    over: Annotated[
        list[str], typer.Option("--over", metavar="PARAM=V1,V2", help="A parameter and its values; may be repeated.")
    ],
    settings: Settings = None,
    seeds: Annotated[int, typer.Option(help="Runs of each combination.")] = 1,
    metric: Annotated[str | None, typer.Option(help="What they are ranked by.")] = None,
    name: Named = None,
    wait: Wait = False,
    save: Save = None,
    dry_run: DryRun = False,
    as_json: screen.AsJson = False,
) -> None:
    """Run every combination of some values."""
    asked = {"grid": {param: _values(text) for param, text in _pairs(over)}, "seeds": seeds, "metric": metric}
    _begin("grid", spec, settings, name, asked, save, wait=wait, dry_run=dry_run, as_json=as_json)


def search(
    spec: Spec,
    over: Annotated[
        list[str],
        typer.Option(
            "--over", metavar="PARAM=LOW:HIGH[:log]", help="A range, or values separated by commas; may be repeated."
        ),
    ],
    trials: Annotated[int, typer.Option(help="How many jobs in all.")],
    settings: Settings = None,
    metric: Annotated[str | None, typer.Option(help="What is to be best.")] = None,
    sampler: Annotated[Literal["random", "tpe"], typer.Option(help="Who suggests what to try.")] = "tpe",
    pruner: Annotated[Literal["none", "median", "asha"], typer.Option(help="What ends hopeless trials.")] = "none",
    parallel: Annotated[int, typer.Option(help="Trials that wait or run at a time.")] = 4,
    name: Named = None,
    wait: Wait = False,
    save: Save = None,
    dry_run: DryRun = False,
    as_json: screen.AsJson = False,
) -> None:
    """Search a space, each trial where the ones before suggest."""
    asked = {
        "space": {param: _dimension(param, text) for param, text in _pairs(over)},
        "trials": trials,
        "metric": metric,
        "sampler": sampler,
        "pruner": pruner,
        "parallel": parallel,
    }
    _begin("search", spec, settings, name, asked, save, wait=wait, dry_run=dry_run, as_json=as_json)


def _begin(
    kind: str,
    path: str,
    settings: list[str] | None,
    name: str | None,
    asked: dict[str, Any],
    save: Path | None,
    *,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    if save is not None:
        studies.form_of(save)
        if not wait:
            raise screen.WrongUse("--save needs --wait: there is no report yet")
    base = spec_file.read(path)
    spec_file.put(base, settings or [])
    given = {part: value for part, value in {"name": name, **asked}.items() if value is not None}
    with connect(patience_seconds=progress.PATIENCE_SECONDS if wait else 1.0) as client:
        body = {"kind": kind, "base": base, **given}
        study = client.post("/v1/studies", body, dry_run="true" if dry_run else None)
        if as_json and not (wait and not dry_run):
            screen.say_json(study)
        elif dry_run:
            _say_costs(study)
        else:
            if not as_json:
                jobs = screen.counted(study["progress"]["total_jobs"], "job")
                screen.say(f"{study['id']}  {study['name']}  {jobs}")
            if not wait:
                screen.say(f"see what it finds with: trainbox study show {study['id']} --wait")
                return
            study = studies.follow(client, study["id"], quiet=as_json)
            studies.report(client, study, save, as_json=as_json)
            raise typer.Exit(0 if study["status"] == "succeeded" else 1)


def _say_costs(dry: dict[str, Any]) -> None:
    jobs, steps = screen.counted(dry["total_jobs"], "job"), screen.counted(dry["total_steps"], "step")
    screen.say(f"{jobs}, {steps} in all; nothing was created")
    for warning in dry["warnings"]:
        screen.say(f"warning: {warning['param']}: {warning['message']}")


def _pairs(given: list[str]) -> list[tuple[str, str]]:
    for text in given:
        if "=" not in text:
            raise screen.WrongUse(f"{text}: write PARAM=VALUES, as in hyperparameters.learning_rate=0.001,0.01")
    return [(text.partition("=")[0], text.partition("=")[2]) for text in given]


def _values(text: str) -> list[Any]:
    """Values separated by commas, each JSON or else a text; a JSON list is a list of values."""
    try:
        whole = json.loads(text)
    except ValueError:
        return [_value(part) for part in text.split(",")]
    return whole if isinstance(whole, list) else [whole]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _dimension(param: str, text: str) -> dict[str, Any]:
    low, colon, rest = text.partition(":")
    if not colon:
        return {"choices": _values(text)}
    high, _, scale = rest.partition(":")
    ends = _value(low), _value(high)
    if scale not in ("", "log") or not all(isinstance(each, int | float) for each in ends):
        raise screen.WrongUse(f"{param}={text}: write LOW:HIGH or LOW:HIGH:log, or values separated by commas")
    whole = all(isinstance(each, int) for each in ends)
    return {"type": "int" if whole else "float", "low": ends[0], "high": ends[1], "log": scale == "log"}
