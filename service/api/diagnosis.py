"""The route that tells what is wrong with a run, if anything."""

from typing import Any

import orjson
from fastapi import APIRouter, Response

from service import charts, examination
from service.api import formats
from service.api.access import Reader
from service.api.answers import Json
from service.api.formats import Format, Wanted, Width
from service.api.paths import RunId
from service.api.place import Here
from service.api.strict_route import StrictRoute
from service.api.views.runs import DiagnosisView

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=StrictRoute)

TABLE = ["code", "severity", "from_step", "to_step", "explanation", "suggestion", "evidence"]


@router.get("/{run_id}/diagnosis", responses={200: {"model": DiagnosisView}})
def get_diagnosis(here: Here, principal: Reader, run_id: RunId, form: Wanted, width: Width = 100) -> Response:
    """What the curves of a run say about its training, also while it runs: the weightiest finding is the verdict.

    Each finding names the steps, the numbers and the rule that it rests on, and what to try instead.
    """
    with here.database.read() as session:
        found = examination.of_run(session, principal, run_id)
    findings = [finding.as_dict() for finding in found.findings]
    if form is Format.JSON:
        return Json({"run_id": run_id, "verdict": found.verdict.value, "findings": findings})
    if form is Format.NDJSON:
        return formats.lines(findings)
    if form is Format.CSV:
        return formats.table(TABLE, [[_cell(each[name]) for name in TABLE] for each in findings], form, width)
    return formats.text("\n".join(_sentences(each, width) for each in findings))


def _cell(value: Any) -> formats.Cell:
    return orjson.dumps(value).decode() if isinstance(value, dict) else value


def _sentences(finding: dict[str, Any], width: int) -> str:
    """What was found, where, what to try and by which rule. No line is longer than `width`."""
    first, last = finding["from_step"], finding["to_step"]
    where = "" if first is None else f", steps {first} to {last}"
    rule = f"rule: {finding['evidence'].get('rule', '')}"
    told = [each for each in (finding["explanation"], finding["suggestion"], rule) if each]
    head = charts.paragraph(f"{finding['code']} ({finding['severity']}{where})", width)
    return head + "".join(charts.paragraph(each, width, "  ") for each in told)
