"""What can be trained: each task with its losses, models and metrics, and the schema of a spec."""

from typing import Any

from service.curves import direction
from service.spec import LOSSES, JobSpec

ABOUT = {
    "classification": "tell classes apart",
    "regression": "predict a number; the target is standardised for training and reported in its own units",
}
MODELS = {"linear": "one linear layer", "mlp": "fully connected layers"}
AT_EVERY_STEP = ["train_loss", "learning_rate", "samples_per_second"]
AT_VALIDATION = {
    "classification": ["val_loss", "val_accuracy", "val_recall", "val_precision", "val_f1"],
    "regression": ["val_loss", "val_mae", "val_r2"],
}

BUILT_IN_METRICS = frozenset(AT_EVERY_STEP).union(*AT_VALIDATION.values(), ["grad_norm"])


def view() -> dict[str, Any]:
    """The catalogue, and JobSpec as JSON Schema: types, defaults, bounds and meaning of every field."""
    return {
        "data": [
            {
                "name": task,
                "description": description,
                "losses": list(LOSSES[task]),
                "models": [{"type": model, "description": about} for model, about in MODELS.items()],
                "metrics": [
                    {"name": metric, "direction": direction(metric).value}
                    for metric in [*AT_EVERY_STEP, *AT_VALIDATION[task]]
                ],
            }
            for task, description in ABOUT.items()
        ],
        "spec": JobSpec.model_json_schema(),
    }
