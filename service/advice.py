"""Advice on a spec: what may be meant otherwise, said before the run. It refuses nothing and changes nothing."""

from service.plan import Plan
from service.spec import READ_BY, CnnModel, Hyperparameters, JobSpec, MlpModel
from service.tasks import METRICS

USUAL_LEARNING_RATES = (0.001, 0.01)


def warnings(spec: JobSpec, plan: Plan) -> list[dict[str, str]]:
    """Advice that never refuses and never changes the spec: `{code, param, message}`."""
    chosen = spec.hyperparameters
    found: list[tuple[str, str, str]] = []
    low, high = USUAL_LEARNING_RATES
    if not low <= chosen.learning_rate <= high:
        side = "slowly or not at all" if chosen.learning_rate < low else "unsteadily, or diverge"
        found.append(
            (
                "learning_rate_unusual",
                "hyperparameters.learning_rate",
                f"the usual start lies between {low} and {high}; the loss may fall {side}: "
                "watch the first hundred steps",
            )
        )
    if chosen.batch_size != "full" and chosen.batch_size > plan.train_samples:
        found.append(
            (
                "batch_larger_than_dataset",
                "hyperparameters.batch_size",
                f"the training split has {plan.train_samples} samples, so each step uses all of them",
            )
        )
    if plan.last_batch_samples * 10 < plan.batch_size:
        found.append(
            (
                "last_batch_tiny",
                "hyperparameters.batch_size",
                f"the last batch of an epoch has {plan.last_batch_samples} of {plan.batch_size} samples, and a noisy "
                "gradient; drop_last leaves it out",
            )
        )
    if chosen.warmup_steps >= plan.total_steps:
        found.append(
            (
                "warmup_longer_than_run",
                "hyperparameters.warmup_steps",
                f"the run has {plan.total_steps} steps, so it ends before the warm-up does",
            )
        )
    if chosen.gradient_accumulation > plan.samples_per_process:
        found.append(
            (
                "accumulation_larger_than_batch",
                "hyperparameters.gradient_accumulation",
                f"a process has {plan.samples_per_process} samples of a step, and computes them one at a time",
            )
        )
    normalised = isinstance(spec.model, CnnModel) or (
        isinstance(spec.model, MlpModel) and spec.model.normalization == "batch"
    )
    if plan.processes > 1 and normalised:
        found.append(
            (
                "normalised_per_process",
                "resources.processes",
                f"each process normalises over its {plan.samples_per_process} samples of a batch, so the curves "
                "differ from those of one process",
            )
        )
    if plan.micro_batches_per_step > 1 and normalised:
        found.append(
            (
                "batch_statistics_by_part",
                "hyperparameters.gradient_accumulation",
                f"{spec.model.type} normalises over the samples that are computed together, here about "
                f"{plan.samples_per_process // plan.micro_batches_per_step} of the {plan.batch_size} of a step: "
                "the curve is not that of the whole batch at once",
            )
        )
    if chosen.precision == "float16" and not spec.resources.gpus:
        found.append(
            (
                "precision_slow",
                "hyperparameters.precision",
                "most CPUs compute in float16 more slowly than in float32; bfloat16 suits more of them",
            )
        )
    if plan.validation_samples < 50:
        found.append(
            ("validation_too_small", "validation.fraction", _small_validation(spec.task, plan.validation_samples))
        )
    if chosen.epochs is not None and plan.total_steps < 100:
        found.append(
            (
                "few_steps",
                "hyperparameters.epochs",
                f"{plan.total_steps} steps in all are seldom enough to judge a learning rate",
            )
        )
    for name, readers in READ_BY.items():
        # A default was perhaps not chosen by anybody: the spec of a copy names them all.
        default = Hyperparameters.model_fields[name].default
        if getattr(chosen, name) != default and chosen.optimizer not in readers:
            found.append(
                (
                    "hyperparameter_unused",
                    f"hyperparameters.{name}",
                    f"{chosen.optimizer} does not read {name}; {' and '.join(readers)} do",
                )
            )
    return [{"code": code, "param": param, "message": message} for code, param, message in found]


def _small_validation(task: str, samples: int) -> str:
    if samples == 0:
        return "nothing is held back, so nothing tells learning from memorising"
    share = 100 / samples
    moves = (
        f"moves val_accuracy by {share:.1f} points"
        if "val_accuracy" in METRICS[task]
        else f"is {share:.1f} % of val_loss"
    )
    return f"with {samples} validation samples, one of them {moves}"
