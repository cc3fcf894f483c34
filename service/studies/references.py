"""A learning rate that a study has found, named in a spec by the study's id instead of a number."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import intake
from service.errors import FieldProblem
from service.ids import is_id
from service.intake import Draft
from service.projects import visible
from service.states import JobStatus, StudyKind
from service.tables import Study
from service.users import Principal

PATH = "hyperparameters.learning_rate"

Resolved = tuple[dict[str, Any], list[FieldProblem], list[dict[str, str]]]


def resolve(session: Session, principal: Principal, raw: Mapping[str, Any]) -> Resolved:
    """(spec, problems, notes): the spec with the number in place of `{"from_study": ID}`, and a note that tells it.

    Whatever else stands there is left for the spec's own check. Where the study has no answer the spec keeps to the
    default, so that its other fields are checked too, and the problem says why.
    """
    spec = dict(raw)
    chosen = spec.get("hyperparameters")
    wanted = chosen.get("learning_rate") if isinstance(chosen, dict) else None
    if not isinstance(chosen, dict) or not isinstance(wanted, dict):
        return spec, [], []
    rest = {name: value for name, value in chosen.items() if name != "learning_rate"}
    spec["hyperparameters"] = rest
    found = _suggestion(session, principal, wanted)
    if isinstance(found, FieldProblem):
        return spec, [found], []
    spec["hyperparameters"] = rest | {"learning_rate": found}
    message = f"{found:.6g}, suggested by study {wanted['from_study']}"
    return spec, [], [{"code": "learning_rate_from_study", "param": PATH, "message": message}]


def draft(session: Session, principal: Principal, raw: Mapping[str, Any], met: Iterable[FieldProblem]) -> Draft:
    """`intake.draft` of a spec that may name a study; a note among its warnings says which number that gave."""
    spec, problems, notes = resolve(session, principal, raw)
    made = intake.draft(session, principal, spec, [*met, *problems])
    made.warnings.extend(notes)
    return made


def _suggestion(session: Session, principal: Principal, wanted: Mapping[str, Any]) -> float | FieldProblem:
    study_id = wanted.get("from_study")
    if set(wanted) != {"from_study"} or not isinstance(study_id, str):
        return FieldProblem(PATH, "invalid_reference", 'give a number, or {"from_study": ID}')
    path = f"{PATH}.from_study"
    query = select(Study).where(Study.id == study_id, visible(principal, Study.project))
    study = session.scalars(query).one_or_none() if is_id(study_id) else None
    if study is None:
        return FieldProblem(path, "unknown_study", "there is no such study")
    if study.kind is not StudyKind.LR_RANGE:
        return FieldProblem(path, "not_lr_range", f"that study is a {study.kind.value}; only lr_range finds a rate")
    if study.report is None:
        return FieldProblem(path, "not_finished", "that study is not over yet")
    if study.status is not JobStatus.SUCCEEDED or study.report["suggested"] is None:
        why = study.report["no_clear_answer"] or {"message": f"the study is {study.status.value}"}
        return FieldProblem(path, "no_clear_answer", f"that study has no clear answer: {why['message']}")
    return float(study.report["suggested"])
