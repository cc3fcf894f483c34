"""One errand of the API: predictions by trained weights, or a probe of a job. An order comes in, an answer goes out.

`python -m workers.errand` reads JSON from standard input and writes JSON to standard output: what was asked for,
`{"problems": [...]}` about the order, or `{"failure": sentence}`.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.errors import FieldProblem, InvalidInput
from service.plan import Plan
from service.spec import JobSpec
from workers.training import prediction, probe


def main() -> None:
    order = json.load(sys.stdin)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever PyTorch prints must not stand in the answer
    with os.fdopen(answers, "w") as file:
        json.dump(_answer(order), file)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    try:
        match order["errand"]:
            case "predict":
                path, length = Path(order["weights"]), order["length"]
                return {"predictions": prediction.predict(path, order["inputs"], length, order["classes"])}
            case "probe":
                spec, plan = JobSpec.model_validate(order["spec"]), Plan.model_validate(order["plan"])
                return asdict(probe.measure(spec, plan, order["data_path"], order["classes"], order["columns"]))
            case unknown:
                return {"failure": f"there is no errand {unknown}"}
    except InvalidInput as error:
        return {"problems": [_plain(problem) for problem in error.problems]}
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]}


def _plain(problem: FieldProblem) -> dict[str, Any]:
    return asdict(problem)


if __name__ == "__main__":
    main()
