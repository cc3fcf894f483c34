"""What this service can train, told: each task with its losses, models and metrics, and the schema of a spec."""

from typing import Any

from service.curves import direction
from service.spec import JobSpec
from service.tasks import AT_EVERY_STEP, DATA_KINDS, FURTHER_MODELS, METRICS, MODELS, TASKS, THINNED

ABOUT_MODELS = {
    "linear": "one linear layer",
    "mlp": "fully connected layers",
    "cnn": "a small residual network for images",
    "gpt": "a transformer that reads bytes",
} | {name: extension.description for name, extension in FURTHER_MODELS.items()}


def view() -> dict[str, Any]:
    """The catalogue, and JobSpec as JSON Schema: types, defaults, bounds and meaning of every field."""
    return {
        "data": [
            {
                "name": name,
                "description": task.description,
                "targets": task.targets,
                "losses": list(task.losses),
                "models": [
                    {
                        "type": model,
                        "description": ABOUT_MODELS[model],
                        "data": [kind for kind in DATA_KINDS.get(model, task.data) if kind in task.data],
                    }
                    for model in MODELS[name]
                ],
                "metrics": [
                    {"name": metric, "direction": direction(metric).value}
                    for metric in [*AT_EVERY_STEP, *THINNED, *METRICS[name]]
                ],
            }
            for name, task in TASKS.items()
        ],
        "spec": JobSpec.model_json_schema(),
    }
