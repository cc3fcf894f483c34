"""A job spec as it comes in: it becomes a whole one, or everything that is wrong with it is named at once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from service.errors import FieldProblem, InvalidInput
from service.field_problems import field_problems
from service.spec import GptModel, JobSpec, filled
from service.tasks import EVERY_MODEL, METRICS, MODELS, TASKS


def parse(
    raw: Mapping[str, Any],
    further: Callable[[Mapping[str, Any]], Iterable[FieldProblem]],
    met: Iterable[FieldProblem] = (),
) -> JobSpec:
    """A validated spec with every default filled in.

    raw: the decoded JSON object. further: looks at the raw spec too, for what this module cannot know (does the
    data set exist?). met: problems that were met while decoding. All are told at once, the first one of a field.
    Raises InvalidInput with every problem found.
    """
    found = list(met)
    spec = None
    try:
        spec = JobSpec.model_validate(raw)
    except ValidationError as error:
        found += field_problems(error.errors(include_input=False, include_url=False), raw, JobSpec)
    found += [*contradictions(raw), *further(raw)]
    if spec is None or found:
        raise InvalidInput(list({problem.param: problem for problem in reversed(found)}.values())[::-1])
    return filled(spec)


def contradictions(raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    """What is wrong between fields that are each well formed. Reads the raw spec: other fields may be broken."""
    yield from _task_misfits(raw)
    held = _inner(raw, "resources")
    gpus, processes = held.get("gpus", 0), held.get("processes", 1)
    if isinstance(gpus, int | float) and isinstance(processes, int) and 0 < gpus != processes > 1:
        message = "with GPUs there is one process for each: leave it out, or give their number"
        yield FieldProblem("resources.processes", "one_for_each_gpu", message)
    chosen = raw.get("hyperparameters")
    if not isinstance(chosen, dict):
        return
    if chosen.get("epochs") is not None and chosen.get("max_steps") is not None:
        yield FieldProblem("hyperparameters.max_steps", "exclusive", "give epochs or max_steps, not both")
    task, loss = raw.get("task"), chosen.get("loss")
    losses = TASKS[task].losses if isinstance(task, str) and task in TASKS else ()
    if losses and isinstance(loss, str) and loss not in losses:
        message = f"the loss of {task} is {' or '.join(losses)}"
        yield FieldProblem("hyperparameters.loss", "loss_does_not_fit", message)
    smoothing, smoothable = chosen.get("label_smoothing"), (loss or next(iter(losses), None)) == "cross_entropy"
    if isinstance(smoothing, float) and smoothing > 0 and not smoothable:
        yield FieldProblem(
            "hyperparameters.label_smoothing", "loss_does_not_fit", "label smoothing is a part of cross_entropy alone"
        )
    warmup = chosen.get("warmup_steps")
    if chosen.get("lr_schedule") == "one_cycle" and isinstance(warmup, int) and warmup > 0:
        yield FieldProblem("hyperparameters.warmup_steps", "exclusive", "one_cycle has a warm-up of its own")


def _task_misfits(raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    task, model, stopping = raw.get("task"), _inner(raw, "model"), _inner(raw, "early_stopping")
    if isinstance(task, str) and task in METRICS:
        kind, metric = model.get("type"), stopping.get("metric")
        if isinstance(kind, str) and kind in EVERY_MODEL and kind not in MODELS[task]:
            message = f"the model of {task} is {' or '.join(MODELS[task])}"
            yield FieldProblem("model.type", "model_does_not_fit", message)
        if isinstance(metric, str) and metric not in METRICS[task]:
            message = f"the validations of {task} give {', '.join(METRICS[task])}"
            yield FieldProblem("early_stopping.metric", "metric_does_not_fit", message)
    heads, width = model.get("heads", GptModel().heads), model.get("width", GptModel().width)
    if model.get("type") == "gpt" and isinstance(heads, int) and isinstance(width, int) and heads > 0 and width % heads:
        yield FieldProblem("model.heads", "must_divide_width", "the heads share the width: it must be a multiple")


def _inner(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = raw.get(name)
    return found if isinstance(found, dict) else {}
