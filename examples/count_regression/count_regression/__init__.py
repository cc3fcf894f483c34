"""What trainbox reads of this task when it starts. No torch here: the service would have to carry it."""

from service.extensions import Task

TASK = Task(
    name="count_regression",
    description="predict how often something happens: a whole number from 0, by Poisson regression",
    targets="numbers",
    data=("table", "images"),
    losses=("poisson_nll",),
    models=("linear", "mlp", "cnn"),
    metrics={"val_deviance": "min", "val_d2": "max", "val_mae": "min"},
    trainer="count_regression.trainer:CountRegression",
)
