"""The conclusion of a study, drawn from what its jobs have left."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from service import curves, plan as plans
from service.curves import Summary
from service.states import Direction, JobStatus
from service.studies import batch_size, evidence, grid, lr_range, points, pruning, search
from service.studies.batch_size import BatchRun
from service.studies.evidence import Trial
from service.studies.grid import Outcome
from service.studies.lr_range import Finding
from service.studies.points import BATCH, RANGE_TEST, RATE
from service.studies.requests import Asked, BatchSizeRequest, GridRequest, LrRangeRequest, RateRange, SearchRequest
from service.studies.search import Tried

PEAK_MEMORY = ("system/gpu_memory_mib", "system/memory_mib")  # of the GPU where there is one


CANCELLED = {"code": "cancelled", "message": "the study was cancelled before its end"}


def draw(
    session: Session, asked: Asked, made: Sequence[Trial], unfinished: dict[str, str] | None = None
) -> dict[str, Any]:
    """The report of a study. unfinished: why its jobs do not answer the question, though some may say something."""
    match asked:
        case GridRequest():
            metric = asked.metric or ""
            over = [trial for trial in made if trial.over]
            return grid.report(metric, curves.direction(metric), _outcomes(session, over, metric))
        case SearchRequest():
            return _search(session, asked, made)
        case LrRangeRequest():
            found = range_test(session, made, asked.learning_rates, asked.seeds, asked.steps, unfinished)
            return lr_range.as_dict(found)
        case BatchSizeRequest():
            return _batch_size(session, asked, made)


def so_far(session: Session, asked: Asked, made: Sequence[Trial], total: int) -> dict[str, Any] | None:
    """The report of a study that goes on, marked as partial; None while no job is over. total: jobs, those to come too.

    What costs seconds waits for the end: the interval of a suggestion, and the importances.
    """
    over = sum(trial.over for trial in made)
    if not over:
        return None
    unfinished = {"code": "not_over", "message": f"{over} of {total} jobs are over"}
    return draw(session, asked, made, unfinished) | {"partial": {"jobs_over": over, "total_jobs": total}}


def _outcomes(session: Session, made: Sequence[Trial], metric: str) -> list[Outcome]:
    found = evidence.summaries(session, made, [metric])
    return [
        Outcome(
            trial.job_id,
            trial.point.parameters,
            trial.point.seed,
            _best(found.get(trial.place, {}).get(metric)) if trial.succeeded else None,
        )
        for trial in made
    ]


def _best(summary: Summary | None) -> float | None:
    return None if summary is None else summary.best


def range_test(
    session: Session,
    made: Sequence[Trial],
    wanted: RateRange,
    seeds: int,
    steps: int,
    unfinished: dict[str, str] | None = None,
) -> Finding:
    """What the runs of one range test say. made: in the order of rates, and of seeds within each."""
    found = evidence.summaries(session, made, ["train_loss", "val_loss"])
    losses, held_out = np.full((len(made), steps), np.nan), np.full(len(made), np.nan)
    for at, trial in enumerate(made):
        if not (trial.succeeded or trial.diverged):
            continue
        metrics = found.get(trial.place, {})
        losses[at] = evidence.losses(session, metrics.get("train_loss"), steps)
        held_out[at] = np.inf if np.isinf(losses[at, -1]) else evidence.held_out(metrics.get("val_loss"))
    shape = (wanted.count, seeds)
    return lr_range.analyse(points.rates(wanted), losses.reshape(*shape, steps), held_out.reshape(shape), unfinished)


def of_size(made: Sequence[Trial], size: int | str) -> list[Trial]:
    """The runs of the range test for one batch size."""
    return [trial for trial in made if trial.point.stage == RANGE_TEST and trial.point.parameters[BATCH] == size]


def tried(session: Session, asked: SearchRequest, made: Sequence[Trial]) -> list[Tried]:
    """The trials of a search as the sampler sees them."""
    metric = asked.metric or ""
    found = evidence.summaries(session, made, [metric])
    return [_tried(trial, _best(found.get(trial.place, {}).get(metric))) for trial in made]


def _tried(trial: Trial, value: float | None) -> Tried:
    parameters = trial.point.parameters
    if not trial.over:
        return Tried(parameters, "running")
    if trial.succeeded and value is not None:
        return Tried(parameters, "complete", value)
    if trial.reason_code == "pruned":
        return Tried(parameters, "pruned", value)
    return Tried(parameters, "failed")


def hopeless(session: Session, asked: SearchRequest, made: Sequence[Trial]) -> dict[int, str]:
    """{place: why} of the running trials that the pruner would end."""
    metric = asked.metric or ""
    running = [trial for trial in made if trial.status is JobStatus.RUNNING]
    if asked.pruner == "none" or not running:
        return {}
    found = evidence.summaries(session, made, [metric])
    histories = {}
    for trial in made:
        read = evidence.curve(session, found.get(trial.place, {}).get(metric))
        histories[trial.place] = read.value.tolist()
    places = {trial.place for trial in running}
    ended = {trial.place for trial in made if trial.succeeded or trial.reason_code == "pruned"}
    validations = max((trial.plan.validations for trial in made if trial.plan), default=0)
    return pruning.hopeless(
        asked.pruner,
        curves.direction(metric),
        {place: history for place, history in histories.items() if place in places},
        {place: history for place, history in histories.items() if place in ended},
        validations,
    )


def _search(session: Session, asked: SearchRequest, made: Sequence[Trial]) -> dict[str, Any]:
    direction = curves.direction(asked.metric or "")
    over = [trial for trial in made if trial.over]
    steps = sum(trial.step for trial in over)
    full = sum(trial.plan.total_steps for trial in over if trial.plan)
    history = tried(session, asked, made)
    return search.report(asked, direction, _outcomes(session, made, asked.metric or ""), history, steps, full)


def _batch_size(session: Session, asked: BatchSizeRequest, made: Sequence[Trial]) -> dict[str, Any]:
    target, direction = asked.target, curves.direction(asked.target.metric)
    runs = [trial for trial in made if trial.point.stage != RANGE_TEST and trial.over]
    found = evidence.summaries(session, runs, [target.metric, *PEAK_MEMORY])
    tests = []
    if asked.learning_rate == "range_test":
        for size in asked.batch_sizes:
            tested = of_size(made, size)
            if not all(trial.over for trial in tested):
                continue
            finding = range_test(session, tested, asked.learning_rates, 1, asked.steps)
            tests.append({"batch_size": size, **lr_range.as_dict(finding)})
    measured = [
        _batch_run(session, trial, found.get(trial.place, {}), target.metric, direction, target.value) for trial in runs
    ]
    return batch_size.report(target.model_dump(), direction, asked.learning_rate, measured, tests)


def _batch_run(
    session: Session, trial: Trial, metrics: dict[str, Summary], metric: str, direction: Direction, value: float
) -> BatchRun:
    about = trial.point.parameters
    run = BatchRun(trial.job_id, about[BATCH], about[RATE], trial.plan)
    if not trial.succeeded or trial.plan is None:
        why = trial.error.value if trial.error else trial.status.value if trial.status else "deleted"
        return replace(run, failed=trial.point.error or why)
    memory = next((metrics[name].max for name in PEAK_MEMORY if name in metrics), None)
    seconds, samples = trial.active_seconds, int(plans.samples_at(np.array([trial.step]), trial.plan)[0])
    run = replace(
        run,
        best=_best(metrics.get(metric)),
        samples_per_second=samples / seconds if seconds > 0 else None,
        peak_memory_mib=memory,
    )
    arrival = evidence.arrival(session, metrics.get(metric), direction, value)
    if arrival is None:
        return run
    step, time = arrival
    arrived, an_epoch = plans.samples_at(np.array([step, trial.plan.steps_per_epoch]), trial.plan)
    return replace(
        run,
        steps_to_target=step,
        samples_to_target=int(arrived),
        epochs_to_target=float(arrived / an_epoch),  # by samples: the last batch of an epoch is smaller than the others
        seconds_to_target=time,
    )
