"""How much each parameter of a grid or a search matters. It is found in a process of its own: the random forest would
leave this one with twice its memory.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from service.states import Direction
from service.studies import requests, search
from service.studies.requests import Dimension, GridRequest, SearchRequest
from service.studies.search import Space, Tried

log = structlog.get_logger()

FEWEST_TO_WEIGH = 4  # whole trials
MOST_SECONDS = 120.0

Weighable = GridRequest | SearchRequest


def weighed(asked: Weighable, found: dict[str, Any]) -> dict[str, Any]:
    """The report with the importance of each parameter that varied, or with None when its runs cannot tell."""
    whole = [row for row in found["ranking"] if row["value"] is not None]
    varied = _varied(asked, whole)
    if len(whole) < FEWEST_TO_WEIGH or len({row["value"] for row in whole}) < 2 or not varied:
        return found | {"importances": None}
    if len(varied) == 1:
        return found | {"importances": dict.fromkeys(varied, 1.0)}
    question = {"asked": asked.model_dump(mode="json"), "report": found}
    command = [sys.executable, "-m", "service.studies.importances"]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=json.dumps(question), capture_output=True, text=True, timeout=MOST_SECONDS, check=True
        )
    except subprocess.SubprocessError as error:
        # The study has its answer all the same.
        log.warning("importances not found", error=str(error))
        return found | {"importances": None}
    return found | {"importances": json.loads(done.stdout)}


def shares(asked: Weighable, found: Mapping[str, Any]) -> dict[str, float]:
    """What each parameter that varied explains of the metric's variance by itself, as a share of what all of them do.

    Functional ANOVA over a random forest (Hutter et al. 2014, "An efficient approach for assessing hyperparameter
    importance"), without what parameters explain only together. found: the report.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    whole = [row for row in found["ranking"] if row["value"] is not None]
    varied = _varied(asked, whole)
    tried = [Tried({name: row["parameters"][name] for name in varied}, "complete", row["value"]) for row in whole]
    study = optuna.create_study(direction=search.word(Direction(found["direction"])))
    search.tell(study, varied, tried)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    weights = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in weights.items()}


def _varied(asked: Weighable, whole: Sequence[Mapping[str, Any]]) -> Space:
    """What may have been chosen of each parameter that has more than one value among the rows.

    Of one that has a single value nothing is known, and a forest that is told of nothing else would share what chance
    does among such parameters.
    """
    space: Space = {}
    match asked:
        case SearchRequest():
            space = asked.space
        case GridRequest():
            space = {name: Dimension(choices=values) for name, values in asked.grid.items()}
    values = {name: {json.dumps(row["parameters"][name]) for row in whole} for name in space}
    return {name: dimension for name, dimension in space.items() if len(values[name]) > 1}


def main() -> None:
    """A question on the input, the answer printed."""
    question = json.load(sys.stdin)
    asked = requests.READER.validate_python(question["asked"])
    assert isinstance(asked, GridRequest | SearchRequest), "nobody asks this of another kind"
    sys.stdout.write(json.dumps(shares(asked, question["report"])))


if __name__ == "__main__":
    main()
