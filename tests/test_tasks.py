"""Images and texts: what a sample is, what the models make of it, and what the validations say of that."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shelves
import torch
import torchmetrics.functional as reference
from torch import Tensor, nn
from torchmetrics.functional.text import perplexity

from service import abilities, advice, plan as plans, raw_spec, spec as specs, tasks as declared
from service.errors import InvalidInput
from workers.training import data, determinism, loop, models, preparation, tasks
from workers.training.loop import Step
from workers.training.preparation import Training

GPT = {"type": "gpt", "layers": 1, "heads": 2, "width": 16, "context": 8}
CNN = {"type": "cnn", "width": 4}
MLP = {"type": "mlp", "hidden_sizes": [9]}


def trained(training: Training) -> list[Step]:
    return list(loop.train(training))


def losses(steps: list[Step]) -> list[float]:
    return torch.stack([step.loss for step in steps]).tolist()


# What a sample is


@pytest.mark.parametrize(("size", "context", "count"), [(9, 8, 1), (16, 8, 1), (17, 8, 2), (100, 1, 99), (8, 8, 0)])
def test_a_text_has_as_many_samples_as_whole_windows_with_a_byte_to_follow(size: int, context: int, count: int) -> None:
    assert plans.windows(size, context) == count


def test_the_samples_of_a_text_are_windows_without_overlap_and_their_targets_the_bytes_that_follow(
    tmp_path: Path,
) -> None:
    content = bytes(range(1, 104))
    training = shelves.text(tmp_path / "t", content).prepared(model=GPT, validation={"fraction": 0.25})
    assert (training.plan.train_samples, training.plan.validation_samples) == (9, 3)
    samples = [*training.train.inputs.tolist(), *training.validation.inputs.tolist()]
    assert samples == [list(range(1 + 8 * place, 9 + 8 * place)) for place in range(12)]
    following = [*training.train.targets.tolist(), *training.validation.targets.tolist()]
    assert following == [list(range(2 + 8 * place, 10 + 8 * place)) for place in range(12)]
    assert training.train.inputs.dtype is torch.uint8
    assert training.train.inputs.data_ptr() == training.train.targets.data_ptr() - 1  # the same bytes, not a copy


def test_a_text_with_a_validation_text_of_its_own_holds_nothing_back(tmp_path: Path) -> None:
    training = shelves.text(tmp_path / "t", b"a" * 81, b"b" * 41).prepared(model=GPT)
    assert (training.plan.train_samples, training.plan.validation_samples) == (10, 5)
    assert set(training.train.inputs.flatten().tolist()) == {ord("a")}
    assert set(training.validation.inputs.flatten().tolist()) == {ord("b")}


def test_a_table_with_a_validation_split_of_its_own_holds_nothing_back(tmp_path: Path) -> None:
    x, y = np.arange(40, dtype=np.float32)[:, None], np.zeros(40, np.float32)
    folder = shelves.stored(tmp_path / "t", x=x, y=y, x_val=x[:7] + 100, y_val=y[:7] + 1)
    shelf = shelves.Shelf(folder, "regression", 40, validation_rows=7)
    training = shelf.prepared(model={"type": "linear"})
    assert (len(training.train), len(training.validation)) == (40, 7)
    assert training.train.inputs.mean().item() == pytest.approx(0, abs=1e-6)
    assert training.validation.inputs.min() > training.train.inputs.max()


def test_how_rows_were_held_back_is_recorded(tmp_path: Path) -> None:
    x, y = np.arange(40, dtype=np.float32)[:, None], np.zeros(40, np.float32)
    own = shelves.stored(tmp_path / "own", x=x, y=y, x_val=x, y_val=y)
    made = {
        "class": shelves.images(tmp_path / "i").prepared(model=CNN),
        "chance": shelves.table(tmp_path / "t", "regression").prepared(),
        "end": shelves.text(tmp_path / "s").prepared(model=GPT),
        "data set": shelves.Shelf(own, "regression", 40, validation_rows=40).prepared(),
    }
    assert [training.preprocessing["split"]["by"] for training in made.values()] == list(made)
    other = shelves.table(tmp_path / "o", "regression").prepared(hyperparameters={"seed": 1})
    assert other.preprocessing["split"]["sha256"] != made["chance"].preprocessing["split"]["sha256"]


def test_a_text_or_table_of_another_size_than_planned_is_refused(tmp_path: Path) -> None:
    text, table = shelves.text(tmp_path / "text"), shelves.table(tmp_path / "table")
    for shelf, size in ((text, text.rows + 8), (table, table.rows - 1)):
        spec = shelf.spec(**({"model": GPT} if shelf is text else {}))
        with pytest.raises(data.InputChanged, match="the plan was made for"):
            preparation.prepare(spec, plans.make(spec, size), shelf.folder, shelf.classes)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_stay_as_they_are_stored_and_lose_mean_and_deviation_on_the_device(tmp_path: Path, kind: Any) -> None:
    training = shelves.images(tmp_path / "i", channels=3, kind=kind).prepared(model=CNN)
    assert training.train.inputs.dtype == torch.from_numpy(np.zeros(1, kind)).dtype
    pixels = training.model[0]  # type: ignore[index]
    assert isinstance(pixels, models.Pixels)
    seen = pixels(training.train.inputs)
    assert seen.dtype is torch.float32
    assert seen.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-5)
    assert seen.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, abs=1e-5)


def test_a_channel_that_is_the_same_everywhere_becomes_zeros() -> None:
    mean, deviation = data.channel_statistics(np.full((5000, 1, 2, 2), 7, np.uint8))
    assert (mean.tolist(), deviation.tolist()) == ([7.0], [1.0])


# The models


def test_gpt_sees_nothing_of_what_comes_later() -> None:
    torch.manual_seed(0)
    model = models.build(specs.GptModel(layers=1, heads=2, width=16, context=12), (12,), 256).eval()
    first = torch.randint(0, 256, (3, 12), dtype=torch.uint8)
    second = first.clone()
    second[:, 7:] = torch.randint(0, 256, (3, 5), dtype=torch.uint8)
    before, after = model(first), model(second)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])
    assert before.shape == (3, 12, 256)


def test_the_stages_of_a_cnn_halve_the_image_and_double_the_width() -> None:
    model = models.build(specs.CnnModel(width=4, depth=3), (3, 28, 28), 10)
    blocks = [module for module in model.modules() if isinstance(module, models.Residual)]
    assert [block.second.out_channels for block in blocks] == [4] * 3 + [8] * 3 + [16] * 3
    shape = torch.zeros(2, 4, 28, 28)
    for block in blocks:
        shape = block(shape)
    assert shape.shape == (2, 16, 7, 7)
    assert model(torch.zeros(2, 3, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(("normalization", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_an_mlp_normalises_in_front_of_each_activation(normalization: str, kind: type[nn.Module]) -> None:
    spec = specs.MlpModel(hidden_sizes=[5, 3], normalization=normalization)  # type: ignore[arg-type]
    layers = [type(layer) for layer in models.build(spec, (4,), 2).children()]
    assert layers == [nn.Linear, kind, nn.ReLU, nn.Linear, kind, nn.ReLU, nn.Linear]


@pytest.mark.parametrize("model", [{"type": "linear"}, MLP, CNN, MLP | {"normalization": "batch"}])
def test_every_model_of_images_learns_to_tell_dark_from_bright(tmp_path: Path, model: dict[str, Any]) -> None:
    chosen = {"epochs": 6, "batch_size": 15, "learning_rate": 0.01}
    steps = trained(shelves.images(tmp_path / "i").prepared(model=model, hyperparameters=chosen))
    assert steps[-1].validation is not None
    assert steps[-1].validation["val_accuracy"] > 0.95


def test_a_gpt_learns_what_comes_next(tmp_path: Path) -> None:
    chosen = {"max_steps": 80, "batch_size": 32, "learning_rate": 0.01}
    steps = trained(shelves.text(tmp_path / "t").prepared(model=GPT, hyperparameters=chosen))
    assert steps[0].loss.item() == pytest.approx(math.log(256), abs=0.2)
    assert steps[-1].validation is not None
    assert steps[-1].validation["val_perplexity"] < 4


# The same as a script would do


def numbers(folder: Path) -> shelves.Shelf:
    return shelves.table(folder, "regression")


SHELVES: dict[str, Callable[..., shelves.Shelf]] = {
    "cnn": shelves.images,
    "mlp": shelves.table,
    "gpt": shelves.text,
    "regression": numbers,
}
MODELS: dict[str, dict[str, Any]] = {"cnn": CNN, "mlp": MLP | {"normalization": "batch"}, "gpt": GPT | {"dropout": 0.2}}
BY_HAND: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.01),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.01, betas=(0.9, 0.999), weight_decay=0),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, lr=0.01, momentum=0.9),
    "adagrad": lambda weights: torch.optim.Adagrad(weights, lr=0.01),
}


@pytest.mark.parametrize(
    ("name", "optimizer", "parts"),
    [
        *((name, optimizer, 1) for name in [*MODELS, "regression"] for optimizer in BY_HAND),
        *((name, "adamw", 3) for name in MODELS),
    ],
)
def test_gradients_and_updates_are_those_of_a_plain_pytorch_loop_to_the_last_bit(
    tmp_path: Path, name: str, optimizer: str, parts: int
) -> None:
    chosen: dict[str, Any] = {"epochs": 2, "batch_size": 32, "seed": 3, "gradient_accumulation": parts}
    chosen |= {"optimizer": optimizer, "learning_rate": 0.01, "max_grad_norm": 0.7}
    no_looks = {"every_steps": 1000}  # the script does not validate in between
    model_spec = MODELS.get(name, MLP)
    training = SHELVES[name](tmp_path / "d").prepared(model=model_spec, hyperparameters=chosen, validation=no_looks)
    steps = trained(training)

    torch.manual_seed(3)
    model: nn.Module = models.build(training.spec.model, training.train.inputs.shape[1:], training.task.outputs)
    x, y = training.train.inputs, training.train.targets
    if name == "cnn":
        pixels = x.double()
        x = (x.float() - pixels.mean().float()) / pixels.std(correction=0).float()
    by_hand = BY_HAND[optimizer](model.parameters())
    expected = []
    for epoch in range(2):
        for batch in data.order(3, epoch, len(x)).split(32):  # type: ignore[no-untyped-call]
            by_hand.zero_grad()
            total = torch.zeros(())
            for part in batch.tensor_split(min(parts, len(batch))):
                outputs = model(x[part])
                if name == "regression":
                    loss = nn.functional.mse_loss(outputs, y[part])
                else:
                    loss = nn.functional.cross_entropy(outputs.flatten(0, -2), y[part].flatten().long())
                share = loss * (len(part) / len(batch)) if parts > 1 else loss
                share.backward()  # type: ignore[no-untyped-call]
                total += share.detach()
            nn.utils.clip_grad_norm_(model.parameters(), 0.7)
            by_hand.step()
            expected.append(total.item())
    assert losses(steps) == pytest.approx(expected, rel=1e-6) if parts > 1 else losses(steps) == expected
    for ours, theirs in zip(training.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(gradient(ours), gradient(theirs))


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        ("mse", nn.functional.mse_loss),
        ("l1", nn.functional.l1_loss),
        ("huber", nn.functional.huber_loss),
        ("bce", nn.functional.binary_cross_entropy_with_logits),
        ("cross_entropy", partial(nn.functional.cross_entropy, label_smoothing=0.2)),
    ],
)
def test_every_loss_is_that_of_pytorch(tmp_path: Path, loss: str, by_hand: Callable[[Tensor, Tensor], Tensor]) -> None:
    classes = loss in ("bce", "cross_entropy")
    shelf = shelves.images(tmp_path / "d") if classes else shelves.table(tmp_path / "d", "regression")
    chosen = {"max_steps": 1, "loss": loss, "label_smoothing": 0.2 if loss == "cross_entropy" else 0.0}
    training = shelf.prepared(model=MLP, hyperparameters=chosen | {"batch_size": "full", "shuffle": False})
    outputs = training.model(training.train.inputs)
    assert losses(trained(training)) == [by_hand(outputs, training.train.targets).item()]


def gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


@pytest.mark.parametrize("name", ["mlp", "gpt"])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(tmp_path: Path, name: str) -> None:
    model = MODELS[name] | ({"dropout": 0.0} if name == "gpt" else {"normalization": "layer"})
    shelf = SHELVES[name](tmp_path / "d")
    found = []
    for parts in (1, 7):
        training = shelf.prepared(model=model, micro_batches=parts, hyperparameters={"max_steps": 1, "batch_size": 30})
        trained(training)
        found.append([gradient(parameter) for parameter in training.model.parameters()])
    for whole, parted in zip(*found, strict=True):
        torch.testing.assert_close(whole, parted, rtol=1e-4, atol=1e-6)


# Precision


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_another_precision_gives_nearly_the_losses_of_float32_with_weights_in_float32(
    tmp_path: Path, name: str, precision: str
) -> None:
    shelf = SHELVES[name](tmp_path / "d")
    model = {**MODELS[name], **({"dropout": 0.0} if name == "gpt" else {})}
    curves = {}
    for chosen in ("float32", precision):
        training = shelf.prepared(model=model, hyperparameters={"max_steps": 6, "precision": chosen})
        curves[chosen] = losses(trained(training))
        assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}
    assert curves[precision] == pytest.approx(curves["float32"], rel=0.05)
    assert curves[precision] != curves["float32"]


def test_a_step_whose_scaled_gradient_overflows_changes_nothing_and_lowers_the_scale(tmp_path: Path) -> None:
    training = shelves.table(tmp_path / "d").prepared(hyperparameters={"max_steps": 1, "precision": "float16"})
    training.scaler.load_state_dict({**training.scaler.state_dict(), "scale": 1e38})
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    trained(training)
    for earlier, parameter in zip(before, training.model.parameters(), strict=True):
        assert torch.equal(earlier, parameter)
    assert training.scaler.get_scale() == pytest.approx(0.5e38)


# Metrics


@pytest.mark.parametrize(
    ("predicted", "present"),
    [
        (range(6), range(6)),
        ([0, 1, 5], [0, 1, 2]),  # some are never predicted, some never present, some neither
        ([3], [3]),
        ([3], [4]),
    ],
)
def test_classification_scores_are_those_of_torchmetrics(predicted: Sequence[int], present: Sequence[int]) -> None:
    chance = np.random.default_rng(1)
    outputs = nn.functional.one_hot(torch.from_numpy(chance.choice(predicted, 200)), 6).float()
    targets = torch.from_numpy(chance.choice(present, 200))
    task = tasks.Classification(6, 6, nn.functional.cross_entropy)
    halves = [task.tally(*half) for half in zip(torch.split(outputs, 120), torch.split(targets, 120), strict=True)]
    macro: dict[str, Any] = {"task": "multiclass", "num_classes": 6, "average": "macro"}
    assert task.scores(torch.stack(halves).sum(dim=0).tolist()) == pytest.approx(
        {
            "val_accuracy": reference.accuracy(outputs, targets, task="multiclass", num_classes=6).item(),
            "val_recall": reference.recall(outputs, targets, **macro).item(),
            "val_precision": reference.precision(outputs, targets, **macro).item(),
            "val_f1": reference.f1_score(outputs, targets, **macro).item(),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("error", [0.0, 2.0])
def test_regression_scores_are_those_of_torchmetrics(spread: float, error: float) -> None:
    chance = np.random.default_rng(1)
    numbers = chance.normal(50, 7, 100).astype(np.float32), np.array(chance.normal(40, spread, 200), np.float32)
    task, _, targets = tasks.Regression.begin(specs.Hyperparameters(loss="mse"), tasks.Given(*numbers, None))
    outputs = targets + error * torch.from_numpy(chance.normal(0, 1, (200, 1)).astype(np.float32))
    scores = task.scores(task.tally(outputs, targets).tolist())
    away = reference.mean_absolute_error(outputs, targets).item()
    # In float32 it loses the spread of nearly equal targets to rounding: it says 5 222 981 of targets without any.
    explained = reference.r2_score(outputs[:, 0].double(), targets[:, 0].double()).item()
    assert scores["val_r2"] == pytest.approx(explained, rel=1e-4)
    assert scores["val_mae"] == pytest.approx(away * numbers[0].std(), rel=1e-5)


def test_perplexity_is_that_of_torchmetrics_however_the_split_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = shelves.text(tmp_path / "t").prepared(model=GPT, hyperparameters={"label_smoothing": 0.1})
    outputs, targets = training.model(training.validation.inputs), training.validation.targets.long()
    whole = loop.validate(training)
    expected = perplexity(outputs.detach(), targets).item()
    assert whole["val_perplexity"] == pytest.approx(expected, rel=1e-5)
    assert whole["val_loss"] > math.log(expected) * 0.9
    monkeypatch.setattr(loop, "VALIDATION_VALUES", 1)
    assert loop.validate(training) == pytest.approx(whole)


# What does not fit is refused by name


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"task": "language_modeling", "model": {"type": "mlp"}}, "model.type", "model_does_not_fit"),
        ({"model": {"type": "gpt"}}, "model.type", "model_does_not_fit"),
        ({"model": {"type": []}}, "model.type", "union_tag_invalid"),
        ({"task": "regression", "model": {"type": "gpt"}}, "model.type", "model_does_not_fit"),
        ({"early_stopping": {"metric": "val_mae"}}, "early_stopping.metric", "metric_does_not_fit"),
        ({"early_stopping": {"metric": "train_loss"}}, "early_stopping.metric", "literal_error"),
        ({"early_stopping": {"patience": 0}}, "early_stopping.patience", "greater_than_equal"),
        ({"early_stopping": {"min_delta": -1.0}}, "early_stopping.min_delta", "greater_than_equal"),
        (
            {"task": "language_modeling", "model": {"type": "gpt", "heads": 3, "width": 64}},
            "model.heads",
            "must_divide_width",
        ),
        (
            {"task": "language_modeling", "hyperparameters": {"loss": "mse"}},
            "hyperparameters.loss",
            "loss_does_not_fit",
        ),
        ({"hyperparameters": {"precision": "float64"}}, "hyperparameters.precision", "literal_error"),
        (
            {"hyperparameters": {"gradient_accumulation": 0}},
            "hyperparameters.gradient_accumulation",
            "greater_than_equal",
        ),
        ({"model": {"type": "cnn", "width": 0}}, "model.width", "greater_than_equal"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_the_field(changes: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        raw_spec.parse({"task": "classification", "dataset": "digits", **changes}, lambda _: [])
    assert [(problem.param, problem.code) for problem in caught.value.problems] == [(param, code)]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"early_stopping": {}, "validation": {"fraction": 0}}, "early_stopping"),
        ({"model": MLP | {"normalization": "batch"}, "hyperparameters": {"batch_size": 7}}, "model.normalization"),
        (
            {
                "model": MLP | {"normalization": "batch"},
                "hyperparameters": {"batch_size": 30, "gradient_accumulation": 30},
            },
            "model.normalization",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_by_the_name_of_the_field(changes: dict[str, Any], param: str) -> None:
    spec = raw_spec.parse({"task": "classification", "dataset": "digits", **changes}, lambda _: [])
    assert [problem.param for problem in plans.problems(spec, 150)] == [param]


@pytest.mark.parametrize(
    ("model", "parts", "warned"),
    [
        (CNN, 4, True),
        (CNN, 1, False),
        (MLP | {"normalization": "batch"}, 4, True),
        (MLP | {"normalization": "layer"}, 4, False),
    ],
)
def test_a_model_that_normalises_over_samples_is_warned_of_batches_in_parts(
    tmp_path: Path, model: dict[str, Any], parts: int, warned: bool
) -> None:
    shelf = shelves.images(tmp_path / "i")
    spec = shelf.spec(model=model, hyperparameters={"batch_size": 32, "gradient_accumulation": parts})
    told = [each for each in advice.warnings(spec, shelf.plan(spec)) if each["code"] == "batch_statistics_by_part"]
    assert bool(told) == warned
    assert not warned or "here about 8 of the 32 of a step" in told[0]["message"]


@pytest.mark.parametrize(("name", "metric"), [("cnn", "val_accuracy"), ("gpt", "val_loss")])
def test_a_small_validation_split_is_told_by_a_metric_that_the_task_has(tmp_path: Path, name: str, metric: str) -> None:
    shelf = SHELVES[name](tmp_path / "d")
    spec = shelf.spec(model=MODELS[name])
    plan = shelf.plan(spec).model_copy(update={"validation_samples": 40})
    [told] = [each for each in advice.warnings(spec, plan) if each["code"] == "validation_too_small"]
    assert "with 40 validation samples" in told["message"]
    assert metric in told["message"]


@pytest.mark.parametrize(("name", "normalises"), [("cnn", True), ("gpt", False)])
def test_parts_that_a_small_device_asked_for_are_told_and_what_they_change(
    tmp_path: Path, name: str, normalises: bool
) -> None:
    shelf = SHELVES[name](tmp_path / "d")
    assert determinism.known(shelf.prepared(model=MODELS[name])) == []
    [told] = determinism.known(shelf.prepared(model=MODELS[name], micro_batches=4))
    assert told.startswith("a batch is computed in 4 parts instead of 1")
    assert told.endswith("normalises over the samples of each part") == normalises


def test_a_text_too_short_for_one_sample_is_refused() -> None:
    spec = raw_spec.parse({"task": "language_modeling", "dataset": "tale", "model": GPT}, lambda _: [])
    assert [problem.param for problem in plans.problems(spec, 9)] == ["model.context"]


def test_language_modeling_takes_a_gpt_when_no_model_is_named() -> None:
    assert raw_spec.parse({"task": "language_modeling", "dataset": "tale"}, lambda _: []).model.type == "gpt"


def test_every_task_and_model_is_in_the_catalogue() -> None:
    assert abilities.ABOUT_MODELS.keys() == declared.EVERY_MODEL
    assert declared.DIRECTIONS.keys() <= declared.TRAINER_METRICS
