"""How much each parameter of a grid or a search matters. It is found in a process of its own: the random forest would
leave this one with twice its memory.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
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
    """The report with the importance of each parameter, or with None when its runs cannot tell."""
    values = [row["value"] for row in found["ranking"] if row["value"] is not None]
    if len(values) < FEWEST_TO_WEIGH or len(set(values)) < 2:
        return found | {"importances": None}
    if len(space := _space(asked)) == 1:
        return found | {"importances": dict.fromkeys(space, 1.0)}
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
    """The share of each parameter in the variance of the metric, by functional ANOVA over a random forest (Hutter et
    al. 2014, "An efficient approach for assessing hyperparameter importance"). found: the report.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    whole = [Tried(row["parameters"], "complete", row["value"]) for row in found["ranking"] if row["value"] is not None]
    study = optuna.create_study(direction=search.word(Direction(found["direction"])))
    search.tell(study, _space(asked), whole)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    weights = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in weights.items()}


def _space(asked: Weighable) -> Space:
    """What was tried of each parameter. One with a single value has nothing to say."""
    if isinstance(asked, SearchRequest):
        return asked.space
    return {name: Dimension(choices=values) for name, values in asked.grid.items()}


def main() -> None:
    """A question on the input, the answer printed."""
    question = json.load(sys.stdin)
    asked = requests.READER.validate_python(question["asked"])
    assert isinstance(asked, GridRequest | SearchRequest), "nobody asks this of another kind"
    sys.stdout.write(json.dumps(shares(asked, question["report"])))


if __name__ == "__main__":
    main()
