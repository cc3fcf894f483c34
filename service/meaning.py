"""What a changed hyperparameter means for the run, in a sentence with numbers. Specs and plans in, words out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.plan import Plan
from service.spec import JobSpec, parameters


@dataclass(frozen=True)
class Change:
    """One parameter before and after, and the plans that follow from the whole specs."""

    before: Any
    after: Any
    plan_before: Plan
    plan_after: Plan


def of(
    before: JobSpec, plan_before: Plan, after: JobSpec, plan_after: Plan
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(changes `{param, from, to, meaning}`, warnings `{code, param, message}`) between two specs."""
    old, new = parameters(before), parameters(after)
    # The copy names the version of the data that the original got without asking.
    if old["dataset"] == new["dataset"].partition("@")[0]:
        old["dataset"] = new["dataset"]
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    changes = []
    for name in changed:
        change = Change(old.get(name), new.get(name), plan_before, plan_after)
        if name.startswith("model.") and not (name in old and name in new):  # each kind of model has fields of its own
            told = f"{after.model.type} has {'this' if name in new else 'no such'} field"
        else:
            told = _meaning(name, change)
        changes.append({"param": name, "from": change.before, "to": change.after, "meaning": told})
    return changes, _advice(changed, plan_before, plan_after)


def _advice(changed: list[str], before: Plan, after: Plan) -> list[dict[str, str]]:
    batch, rate = "hyperparameters.batch_size", "hyperparameters.learning_rate"
    if batch not in changed or rate in changed or before.batch_size == after.batch_size:
        return []
    ratio = after.batch_size / before.batch_size
    steadier = "steadier" if ratio > 1 else "noisier"
    message = (
        f"a batch {_times(ratio)} as large gives {steadier} gradients, and another learning rate suits it: "
        f"{_times(ratio)} the former is a common first try for sgd, {_times(ratio**0.5)} for adam"
    )
    return [{"code": "batch_size_changed_without_learning_rate", "param": rate, "message": message}]


def _meaning(name: str, change: Change) -> str:
    last = name.rpartition(".")[2]
    sentence = SENTENCES.get(name) or SENTENCES.get(last)
    return (
        sentence(change)
        if sentence
        else f"{last.replace('_', ' ')} is {_told(change.after)} instead of {_told(change.before)}"
    )


def _learning_rate(change: Change) -> str:
    return f"each step moves the weights {_times(change.after / change.before)} as far"


def _batch_size(change: Change) -> str:
    before, after = change.plan_before, change.plan_after
    return (
        f"each step averages the gradient over {after.batch_size} samples instead of {before.batch_size}; "
        f"{after.steps_per_epoch} steps an epoch instead of {before.steps_per_epoch}"
    )


def _length(change: Change) -> str:
    before, after = change.plan_before, change.plan_after
    return (
        f"{after.total_steps} steps instead of {before.total_steps}: "
        f"{_passes(after)} instead of {_passes(before)} passes over the training samples"
    )


def _passes(plan: Plan) -> str:
    return f"{float(plan.epochs):.2f}".rstrip("0").rstrip(".")


def _seed(_: Change) -> str:
    return "another split, other first weights and another order: the difference shows how much is chance"


def _optimizer(change: Change) -> str:
    return f"{change.after} instead of {change.before}: another rule for each step, and another learning rate suits it"


def _fraction(change: Change) -> str:
    before, after = change.plan_before, change.plan_after
    return (
        f"{after.train_samples} samples to learn from instead of {before.train_samples}, "
        f"{after.validation_samples} to judge by instead of {before.validation_samples}"
    )


def _regularised(change: Change) -> str:
    more = (change.after or 0) > (change.before or 0)
    return "a stronger pull against memorising" if more else "a weaker pull against memorising"


def _hidden_sizes(change: Change) -> str:
    return f"layers of {change.after} units instead of {change.before}: what can be learned and a step's time change"


def _gradient_accumulation(change: Change) -> str:
    before, after = change.plan_before.micro_batches_per_step, change.plan_after.micro_batches_per_step
    return f"a batch is computed in {after} parts instead of {before}: less memory at a time, the same step"


def _precision(change: Change) -> str:
    return f"matrix products in {change.after} instead of {change.before}: other rounding, and on some devices faster"


def _shape(change: Change) -> str:
    return f"{change.after} instead of {change.before}: what can be learned, the memory and a step's time change"


def _patience(change: Change) -> str:
    if change.after is None:
        return "training takes all its steps, whatever the validations say"
    former = "" if change.before is None else f" instead of {change.before}"
    return f"training ends after {change.after} validations without an improvement{former}"


def _momentum(change: Change) -> str:
    if change.after == 0:
        return "each step follows its own gradient alone: no memory of those before"
    steps = _number(1 / (1 - change.after))
    return f"each step follows the gradients of about the last {steps} steps, and its length grows with them"


def _loss(change: Change) -> str:
    return f"{change.after} is minimised instead of {change.before}: the two losses' values cannot be compared"


def _schedule(change: Change) -> str:
    return f"the learning rate goes the way of {change.after} instead of {change.before}, from the same start"


def _warmup(change: Change) -> str:
    before, after = change.plan_before.warmup_steps, change.plan_after.warmup_steps
    if not after:
        return "the first step is taken at the full learning rate"
    return f"the learning rate rises from 0 over {after} steps instead of {before}"


def _clipping(change: Change) -> str:
    if change.after is None:
        return "no gradient is scaled down any more, however large"
    return f"gradients whose norm is above {_number(change.after)} are scaled down to it"


def _drop_last(change: Change) -> str:
    before, after = change.plan_before, change.plan_after
    what = "left out" if change.after else "used"
    steps = f"{after.steps_per_epoch} steps an epoch instead of {before.steps_per_epoch}"
    return f"the smaller last batch of an epoch is {what}: {steps}"


def _shuffle(change: Change) -> str:
    return "a new order in each epoch" if change.after else "the same order in each epoch: neighbours stay in one batch"


def _activation(change: Change) -> str:
    return f"{change.after} between the layers instead of {change.before}: another learning rate may suit it"


def _model(change: Change) -> str:
    return f"{change.after} instead of {change.before}: another model, and another learning rate suits it"


def _dataset(change: Change) -> str:
    before, after = change.plan_before, change.plan_after
    return f"other data: {after.train_samples} samples to learn from instead of {before.train_samples}"


def _validated(change: Change) -> str:
    return f"{change.plan_after.validations} validations instead of {change.plan_before.validations}"


def _threads(change: Change) -> str:
    return (
        f"{change.after} threads instead of {change.before}: other times, and sums that may differ in the last digits"
    )


SENTENCES: dict[str, Callable[[Change], str]] = {
    "validation.every_steps": _validated,
    "model.type": _model,
    "dataset": _dataset,
    "momentum": _momentum,
    "loss": _loss,
    "lr_schedule": _schedule,
    "warmup_steps": _warmup,
    "max_grad_norm": _clipping,
    "drop_last": _drop_last,
    "shuffle": _shuffle,
    "activation": _activation,
    "threads": _threads,
    "learning_rate": _learning_rate,
    "batch_size": _batch_size,
    "epochs": _length,
    "max_steps": _length,
    "seed": _seed,
    "optimizer": _optimizer,
    "fraction": _fraction,
    "weight_decay": _regularised,
    "dropout": _regularised,
    "label_smoothing": _regularised,
    "hidden_sizes": _hidden_sizes,
    "gradient_accumulation": _gradient_accumulation,
    "precision": _precision,
    "patience": _patience,
    **dict.fromkeys(("width", "depth", "layers", "heads", "context"), _shape),
}


def _told(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _times(ratio: float) -> str:
    return f"{_number(ratio)} times"


def _number(value: float) -> str:
    return f"{value:.3g}"
