"""Makes the labelled curves that the diagnosis is measured on: real trainings whose troubles are known beforehand.

Run with `python -m benchmarks.labelled`; it writes `benchmarks/labelled.npz` anew, in some minutes.

A label does not come from the rules that are tested. It follows from how a run was made (its rate, its model, how much
data, how many steps) and from how its siblings ended, which differ from it in one thing: the learning rate, the size
of the model, or the length (the same run stopped earlier is its own beginning, as the rate is constant). What the
siblings leave in doubt has more than one accepted verdict, or is left out. Runs of `held_out` families were not
looked at while the rules were tuned.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets

from service import plan as plans, raw_spec
from workers.training import loop, preparation

FILE = Path(__file__).with_name("labelled.npz")
KEPT = ("train_loss", "val_loss", "val_accuracy", "val_r2")
RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
OTHER_RATES = (3e-6, 3e-5, 3e-4, 3e-3, 3e-2, 0.3, 3.0, 30.0)
# Around the largest rate that still trains.
EDGES = {"sgd": (0.01, 0.15, 0.2, 0.4, 0.6, 0.8), "adam": (0.002, 0.06, 0.15, 0.2, 0.4, 0.7)}
LOADERS = {
    "digits": datasets.load_digits,
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """Runs that differ in the learning rate alone. made_for: what the making is meant to bring about."""

    name: str
    dataset: str
    hidden: tuple[int, ...]
    batch_size: int
    epochs: int
    optimizer: str
    rates: tuple[float, ...] = RATES
    seed: int = 0
    fraction: float = 0.2
    weight_decay: float = 0.0
    max_steps: int | None = None
    made_for: str = "learning_rate"
    held_out: bool = False


@dataclass(frozen=True, eq=False)
class Example:
    """One run, its curves at every step or every validation, and the verdicts that are right for it, the first best."""

    family: Family
    learning_rate: float
    steps_per_epoch: int
    total_steps: int
    curves: dict[str, Floats] = field(repr=False)
    accepted: tuple[str, ...] = ()

    @property
    def start(self) -> float:
        """The loss before the first update."""
        return float(self.curves["train_loss"][0])

    def ended(self, metric: str, share: float = 1.0) -> float:
        """The mean of the last tenth, at least three values, of the run stopped after this share of its length."""
        values = self.curves[metric]
        stop = max(3, round(len(values) * share))
        tail = values[max(0, stop - max(3, stop // 10)) : stop]
        return float(tail.mean()) if np.isfinite(tail).all() else float("inf")


def families() -> Iterator[Family]:
    """All of them: sweeps of rates, data too small for the model, models too small for the data, runs too short."""
    yield from _sweeps(seed=0, rates=RATES, width=32, held_out=False)
    yield from _sweeps(seed=5, rates=OTHER_RATES, width=48, held_out=True)
    for optimizer in ("sgd", "adam"):
        yield Family("wine", "wine", (32,), 16, 40, optimizer, RATES, seed=6, held_out=True)
    usual = {"sgd": (0.03,), "adam": (0.002,)}
    for seed in (0, 5):
        for optimizer, rates in usual.items():
            facts: dict[str, Any] = {"optimizer": optimizer, "rates": rates, "seed": seed, "held_out": seed == 5}
            small: dict[str, Any] = {"fraction": 0.8, "made_for": "overfitting", **facts}
            yield Family("few digits", "digits", (128,), 32, 60, **small)
            yield Family("few patients", "breast_cancer", (128, 64), 16, 80, **small)
            yield Family("few measurements", "diabetes", (256, 128), 16, 100, **{**small, "fraction": 0.5})
            yield Family("very few measurements", "diabetes", (128,), 16, 150, **small)
            tiny: dict[str, Any] = {"made_for": "underfitting", **facts}
            yield Family("one unit", "digits", (1,), 64, 25, **tiny)
            yield Family("held down", "digits", (64,), 64, 25, **tiny, weight_decay=0.5 if optimizer == "sgd" else 0.3)
            yield Family("held down numbers", "diabetes", (64,), 32, 40, **tiny, weight_decay=1.0)
            for steps in (3, 8, 12):
                yield Family("short", "digits", (64,), 64, 1, **facts, max_steps=steps, made_for="too_short_to_tell")


def _sweeps(*, seed: int, rates: tuple[float, ...], width: int, held_out: bool) -> Iterator[Family]:
    for optimizer in ("sgd", "adam"):
        facts: dict[str, Any] = {"optimizer": optimizer, "rates": rates, "seed": seed, "held_out": held_out}
        yield Family("digits", "digits", (2 * width,), 2 * width, 20, **facts)
        yield Family("patients", "breast_cancer", (width,), width, 30, **facts)
        yield Family("measurements", "diabetes", (width,), width, 40, **facts)
        facts["rates"] = EDGES[optimizer]
        yield Family("digits, at the edge", "digits", (128, 64), width, 10, **facts)
        yield Family("measurements, at the edge", "diabetes", (64, 32), 2 * width, 60, **facts)


def train(family: Family, rate: float) -> Example:
    """Trains in this process, as a trainer does, past any loss that is not finite."""
    data = LOADERS[family.dataset]()
    regression = family.dataset == "diabetes"
    raw = {
        "task": "regression" if regression else "classification",
        "dataset": family.dataset,
        "model": {"type": "mlp", "hidden_sizes": list(family.hidden)},
        "hyperparameters": {
            "learning_rate": rate,
            "batch_size": family.batch_size,
            "optimizer": family.optimizer,
            "weight_decay": family.weight_decay,
            "seed": family.seed,
            **({"max_steps": family.max_steps} if family.max_steps else {"epochs": family.epochs}),
        },
        "validation": {"fraction": family.fraction},
        "on_non_finite": "continue",
    }
    spec = raw_spec.parse(raw, lambda _: [])
    plan = plans.make(spec, len(data.data))
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", data.data.astype(np.float32))
        np.save(Path(folder) / "y.npy", data.target.astype(np.float32 if regression else np.int64))
        training = preparation.prepare(spec, plan, folder, None if regression else int(data.target.max()) + 1)
        losses = []
        for step in loop.train(training):
            losses.append(step.loss)
            for metric, value in (step.validation or {}).items():
                found[metric].append(value)
    found["train_loss"] = torch.stack(losses).tolist()
    curves = {metric: np.array(found[metric]) for metric in KEPT if metric in found}
    return Example(family, rate, plan.steps_per_epoch, plan.total_steps, curves)


def labelled(runs: list[Example], lowest: dict[str, float]) -> Iterator[Example]:
    """The runs of one family with what is right for each; those that their siblings leave in doubt are left out.

    lowest: where the best run of each data set's sweep ended, with a model that is large enough and free.
    """
    finite = [run for run in runs if np.isfinite(run.ended("train_loss"))]
    best = min(finite, key=lambda run: run.ended("train_loss"), default=None)
    for run in runs:
        accepted = _accepted(run, best, lowest.get(run.family.dataset, np.inf))
        if accepted:
            yield replace(run, accepted=accepted)


def _accepted(run: Example, best: Example | None, lowest: float) -> tuple[str, ...]:
    made_for, end = run.family.made_for, run.ended("train_loss")
    if made_for == "too_short_to_tell":
        return ("too_short_to_tell",)
    # It ended clearly worse than it began, or not at all: whatever else it did, it diverged.
    if not end <= 1.5 * run.start:
        return ("diverged",)
    if end > 0.95 * run.start and best is not None and run.learning_rate > 3 * best.learning_rate:
        return ("learning_rate_too_high", "diverged")
    if made_for == "underfitting":
        return ("underfitting",) if run.start - end < 0.5 * (run.start - lowest) else ()
    assert best is not None
    reached = (run.start - end) / (run.start - best.ended("train_loss"))
    if reached < 0.7 and run is not best:
        return ("learning_rate_too_low" if run.learning_rate < best.learning_rate else "learning_rate_too_high",)
    if reached < 0.9 and run is not best:
        return ()
    accepted = _length(run)
    # The training split was learned all the same, but a smaller rate ended far better on the other.
    if run.learning_rate > best.learning_rate and run.ended("val_loss") > 2 * best.ended("val_loss"):
        accepted = (*accepted, "learning_rate_too_high")
    return accepted


def _length(run: Example) -> tuple[str, ...]:
    """A run at a good rate: was it too long, when the same run, stopped earlier, did better on what it had not seen?"""
    shares = (0.1, 0.2, 0.35, 0.5, 0.75)
    metric = "val_r2" if "val_r2" in run.curves else "val_accuracy"
    best_share = min(shares, key=lambda share: run.ended("val_loss", share))
    least = run.ended("val_loss", best_share)
    lost = (run.ended("val_loss") - least) / max(least, 0.02 * run.start)
    gained = run.ended(metric) - run.ended(metric, best_share)
    if lost > 0.2:
        return ("loss_and_metric_disagree", "overfitting") if gained > 0.005 else ("overfitting",)
    if lost > 0.05:
        return ("overfitting", "loss_and_metric_disagree", "healthy", "plateaued")
    return ("healthy", "plateaued")


def save(examples: Iterable[Example], path: Path = FILE) -> None:
    arrays: dict[str, Any] = {}
    facts = []
    for number, each in enumerate(examples):
        for metric, values in each.curves.items():
            arrays[f"{number:03}.{metric}"] = values.astype(np.float32)
        facts.append({name: value for name, value in asdict(each).items() if name != "curves"})
    np.savez_compressed(path, facts=np.array(json.dumps(facts)), **arrays)


def load(path: Path = FILE) -> list[Example]:
    """The stored examples, in the order in which they were made."""
    with np.load(path) as stored:
        found = []
        for number, facts in enumerate(json.loads(str(stored["facts"]))):
            curves = {
                metric: stored[f"{number:03}.{metric}"].astype(np.float64)
                for metric in KEPT
                if f"{number:03}.{metric}" in stored
            }
            family = Family(**_tuples(facts.pop("family")))
            found.append(Example(family=family, curves=curves, **_tuples(facts)))
    return found


def _tuples(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}


def main() -> None:
    found: list[Example] = []
    lowest: dict[str, float] = {}
    for family in families():
        runs = [train(family, rate) for rate in family.rates]
        made = list(labelled(runs, lowest))
        if family.made_for == "learning_rate":
            ends = [run.ended("train_loss") for run in runs]
            lowest[family.dataset] = min(lowest.get(family.dataset, np.inf), *ends, np.inf)
        found += made
        for run in made:
            print(
                f"{family.name:22} {family.optimizer:5} {run.learning_rate:8g}  {' or '.join(run.accepted)}", flush=True
            )
    save(found)
    print(f"{len(found)} curves, {sum(run.family.held_out for run in found)} of them held out, in {FILE.name}")


if __name__ == "__main__":
    main()
