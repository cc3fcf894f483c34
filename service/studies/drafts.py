"""From a raw request to jobs that could be queued at once: every value checked as a job's spec would be."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from service import intake
from service.errors import FieldProblem, InvalidInput
from service.intake import Draft
from service.studies import points, references, requests
from service.studies.points import BATCH, RATE, Point
from service.studies.requests import (
    MOST_JOBS,
    Asked,
    BatchSizeRequest,
    GridRequest,
    LrRangeRequest,
    SearchRequest,
)
from service.tasks import METRICS
from service.users import Principal

# What a study varies must tell its runs apart, and the seed is varied by `seeds`.
VARIED = ("hyperparameters.", "model", "data", "validation.", "resources.")
MOST_TOLD = 20

Check = Callable[[Mapping[str, Any]], Draft]


@dataclass(frozen=True)
class Checked:
    """A request with nothing left open, and the jobs that it begins with.

    later: the long runs behind range tests, as they would be with the base's learning rate. notes: where that is from.
    """

    asked: Asked
    base: Draft
    points: list[Point]
    drafts: list[Draft]
    later: list[tuple[Point, Draft]]
    total_jobs: int
    notes: list[dict[str, str]]


def check(session: Session, principal: Principal, raw: Mapping[str, Any], met: Iterable[FieldProblem] = ()) -> Checked:
    """Raises InvalidInput with every problem, each under its path within the request.

    met: problems that were met while decoding.
    """
    asked, found = requests.read(raw, met)
    given, base = raw.get("base"), None
    notes: list[dict[str, str]] = []
    if isinstance(given, dict):
        spec, unresolved, notes = references.resolve(session, principal, given)
        found += _within("base", unresolved)
        try:
            base = intake.draft(session, principal, spec)
        except InvalidInput as error:
            found += _within("base", error.problems)
    if asked is None or base is None:
        requests.refuse(found)
        raise InvalidInput(found)
    asked = _completed(asked, base, spec)

    def draft(raw: Mapping[str, Any]) -> Draft:
        return intake.draft(session, principal, raw)

    found += _metric(asked, base)
    found += _rates(asked)
    too_many = list(_size(asked))
    found += too_many or _values(asked, draft)
    requests.refuse(found)
    made = points.first(asked, base.spec.hyperparameters.seed, base.plan.train_samples)
    after = points.later(asked, base.spec.hyperparameters.seed)
    drafts, impossible = _drafts(asked, [*made, *after], draft)
    requests.refuse(impossible)
    for each in drafts:
        each.warnings.extend(notes)
    later = list(zip(after, drafts[len(made) :], strict=True))
    return Checked(asked, base, made, drafts[: len(made)], later, points.total(asked, len(made)), notes)


def _within(place: str, found: Iterable[FieldProblem]) -> list[FieldProblem]:
    return [FieldProblem(f"{place}.{each.param}", each.code, each.message, each.hint) for each in found]


def _completed(asked: Asked, base: Draft, spec: Mapping[str, Any]) -> Asked:
    """With the version of the data, a name and a metric."""
    pinned = {**spec, "dataset": f"{base.dataset.name}@{base.dataset.version}"}
    filled: dict[str, Any] = {"base": pinned, "name": asked.name or f"{asked.kind} of {base.spec.name}"[:200]}
    if isinstance(asked, GridRequest | SearchRequest):
        filled["metric"] = asked.metric or ("val_loss" if base.plan.validation_samples else "train_loss")
    return asked.model_copy(update=filled)


def _metric(asked: Asked, base: Draft) -> Iterator[FieldProblem]:
    match asked:
        case GridRequest() | SearchRequest():
            path, metric = "metric", asked.metric
        case BatchSizeRequest():
            path, metric = "target.metric", asked.target.metric
        case _:
            return
    validated = METRICS[base.spec.task] if base.plan.validation_samples else []
    known = ["train_loss", *validated]
    if metric not in known:
        yield FieldProblem(
            path, "unknown_metric", "no run of this study has such a metric", f"known here: {', '.join(known)}"
        )


def _rates(asked: Asked) -> Iterator[FieldProblem]:
    """Rates are rounded for people, to six digits: some of a narrow range would be the same one."""
    match asked:
        case LrRangeRequest() | BatchSizeRequest(learning_rate="range_test"):
            wanted = asked.learning_rates
        case _:
            return
    if wanted.low < wanted.high and len(set(points.rates(wanted))) < wanted.count:
        message = "so many rates between these two cannot be told apart"
        yield FieldProblem("learning_rates.count", "too_close", message)


def _size(asked: Asked) -> Iterator[FieldProblem]:
    match asked:
        case GridRequest():
            path, jobs = "grid", math.prod(map(len, asked.grid.values())) * asked.seeds
        case SearchRequest():
            return
        case LrRangeRequest():
            path, jobs = "learning_rates.count", asked.learning_rates.count * asked.seeds
        case BatchSizeRequest():
            tested = asked.learning_rates.count if asked.learning_rate == "range_test" else 0
            path, jobs = "batch_sizes", len(asked.batch_sizes) * (asked.seeds + tested)
    if jobs > MOST_JOBS:
        yield FieldProblem(path, "too_many_jobs", f"a study has at most {MOST_JOBS} jobs, and this makes {jobs}")


def _values(asked: Asked, draft: Check) -> Iterator[FieldProblem]:
    """What is wrong with each value alone, put into the base."""
    for path, param, value in _varied(asked):
        where, _, _ = path.partition(f".{param}.")
        if isinstance(asked, GridRequest | SearchRequest) and (
            not param.startswith(VARIED) or param == "hyperparameters.seed"
        ):
            seed = "; seeds gives each point several" if param.endswith("seed") else ""
            yield FieldProblem(f"{where}.{param}", "not_varied", f"a study does not vary this{seed}")
            continue
        try:
            draft(points.job_spec(asked, Point({param: value}, 0), "check"))
        except InvalidInput as error:
            for problem in error.problems:
                if problem.code == "unknown_field":
                    yield FieldProblem(f"{where}.{param}", problem.code, problem.message, problem.hint)
                elif problem.param.startswith(param):
                    yield FieldProblem(
                        f"{path}{problem.param[len(param) :]}", problem.code, problem.message, problem.hint
                    )
                else:
                    yield FieldProblem(path, problem.code, f"with this, {problem.param}: {problem.message}")


def _varied(asked: Asked) -> Iterator[tuple[str, str, Any]]:
    """(where it stands, what it varies, value) of all values to be checked."""
    match asked:
        case GridRequest():
            for param, values in asked.grid.items():
                for place, value in enumerate(values):
                    yield f"grid.{param}.{place}", param, value
        case SearchRequest():
            for param, dimension in asked.space.items():
                for end, value in points.ends(dimension).items():
                    yield f"space.{param}.{end}", param, value
        case BatchSizeRequest():
            for place, size in enumerate(asked.batch_sizes):
                yield f"batch_sizes.{place}", BATCH, size
        case LrRangeRequest():
            yield "learning_rates.high", RATE, asked.learning_rates.high


def _drafts(asked: Asked, made: list[Point], draft: Check) -> tuple[list[Draft], list[FieldProblem]]:
    """A draft of each job, and what is wrong with combinations of values that are each possible."""
    drafts: list[Draft] = []
    problems: list[FieldProblem] = []
    path = {"grid": "grid", "batch_size": "batch_sizes"}.get(asked.kind, "base")
    for number, point in enumerate(made):
        try:
            drafts.append(draft(points.job_spec(asked, point, asked.name or "")))
        except InvalidInput as error:
            for problem in error.problems:
                message = f"job {number + 1} of {len(made)}: {problem.param}: {problem.message}"
                problems.append(FieldProblem(path, problem.code, message, problem.hint))
        if len(problems) >= MOST_TOLD:
            break
    return drafts, problems
