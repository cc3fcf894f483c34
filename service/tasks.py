"""What can be trained: each task with its losses, models and metrics, and the schema of a spec."""

from typing import Any

from service.curves import direction
from service.spec import DATA_KINDS, FURTHER, LOSSES, METRICS, MODELS, JobSpec

ABOUT = {
    "classification": "tell classes apart",
    "regression": "predict a number; the target is standardised for training and reported in its own units",
    "language_modeling": "foretell the next byte of a text",
}
ABOUT_MODELS = {
    "linear": "one linear layer",
    "mlp": "fully connected layers",
    "cnn": "a small residual network for images",
    "gpt": "a transformer that reads bytes",
} | {name: extension.description for name, extension in FURTHER.items()}
KINDS = {
    "classification": ("table", "images"),
    "regression": ("table", "images"),
    "language_modeling": ("text",),
}
# What the trainer uses of the machine; the last two only on a GPU.
SYSTEM_SERIES = ("system/cpu_percent", "system/memory_mib", "system/gpu_percent", "system/gpu_memory_mib")
AT_EVERY_STEP = ["train_loss", "learning_rate", "samples_per_second"]
THINNED = ["grad_norm", *SYSTEM_SERIES]

BUILT_IN_METRICS = frozenset([*AT_EVERY_STEP, *THINNED]).union(*METRICS.values())


def view() -> dict[str, Any]:
    """The catalogue, and JobSpec as JSON Schema: types, defaults, bounds and meaning of every field."""
    return {
        "data": [
            {
                "name": task,
                "description": description,
                "losses": list(LOSSES[task]),
                "models": [
                    {
                        "type": model,
                        "description": ABOUT_MODELS[model],
                        "data": list(DATA_KINDS.get(model, KINDS[task])),
                    }
                    for model in MODELS[task]
                ],
                "metrics": [
                    {"name": metric, "direction": direction(metric).value}
                    for metric in [*AT_EVERY_STEP, *THINNED, *METRICS[task]]
                ],
            }
            for task, description in ABOUT.items()
        ],
        "spec": JobSpec.model_json_schema(),
    }
