"""The tasks that there are, built in and brought by packages, with the losses, models and metrics of each."""

from service import extensions
from service.extensions import Task
from service.states import Direction

BUILT_IN = (
    Task(
        name="classification",
        description="tell classes apart",
        targets="classes",
        data=("table", "images"),
        losses=("cross_entropy", "bce"),
        models=("mlp", "linear", "cnn"),
        metrics={"val_accuracy": "max", "val_recall": "max", "val_precision": "max", "val_f1": "max"},
        trainer="workers.training.tasks:Classification",
    ),
    Task(
        name="regression",
        description="predict a number; the target is standardised for training and reported in its own units",
        targets="numbers",
        data=("table", "images"),
        losses=("mse", "l1", "huber"),
        models=("mlp", "linear", "cnn"),
        metrics={"val_mae": "min", "val_r2": "max"},
        trainer="workers.training.tasks:Regression",
    ),
    Task(
        name="language_modeling",
        description="foretell the next byte of a text",
        targets="bytes",
        data=("text",),
        losses=("cross_entropy",),
        models=("gpt",),
        metrics={"val_perplexity": "min"},
        trainer="workers.training.tasks:LanguageModeling",
    ),
)

TASKS, FURTHER_MODELS = extensions.installed(BUILT_IN)

# The models of each task, the one that is used when none is named first.
MODELS = {
    name: tuple(dict.fromkeys((*task.models, *(kind for kind, each in FURTHER_MODELS.items() if name in each.tasks))))
    for name, task in TASKS.items()
}
EVERY_MODEL = {kind for kinds in MODELS.values() for kind in kinds}
# Kinds of data, for models that do not take all that their tasks do.
DATA_KINDS: dict[str, tuple[str, ...]] = {"cnn": ("images",)} | {
    kind: each.data for kind, each in FURTHER_MODELS.items()
}
EVERY_LOSS = tuple(dict.fromkeys(loss for task in TASKS.values() for loss in task.losses))

# What is measured at each validation of each task.
METRICS = {name: ("val_loss", *task.metrics) for name, task in TASKS.items()}
EVERY_VALIDATION_METRIC = tuple(dict.fromkeys(metric for metrics in METRICS.values() for metric in metrics))

# What the trainer uses of the machine; the last two only on a GPU.
SYSTEM_SERIES = ("system/cpu_percent", "system/memory_mib", "system/gpu_percent", "system/gpu_memory_mib")
AT_EVERY_STEP = ["train_loss", "learning_rate", "samples_per_second"]
THINNED = ["grad_norm", *SYSTEM_SERIES]
TRAINER_METRICS = frozenset([*AT_EVERY_STEP, *THINNED, *EVERY_VALIDATION_METRIC])

DIRECTIONS = {"train_loss": Direction.MIN, "val_loss": Direction.MIN} | {
    metric: Direction(word) for task in TASKS.values() for metric, word in task.metrics.items()
}


def trained_metrics(task: str) -> frozenset[str]:
    """What the trainer of a task may record."""
    return frozenset([*AT_EVERY_STEP, *THINNED, *METRICS.get(task, EVERY_VALIDATION_METRIC)])


def of_data(kind: str, task: str) -> list[str]:
    """What a data set can be learned for. kind: of its data. task: the built-in one that it is said to be for."""
    targets = TASKS[task].targets if task in TASKS else None
    return [name for name, each in TASKS.items() if kind in each.data and each.targets == targets]
