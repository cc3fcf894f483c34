"""Whether the learning rate that a range test suggests is as good as the best of a brute-force search.

The digits: 16 rates, 2 seeds, 100 steps for the test; every rate trained in full for the search. Both take the
trainer's own loop, in this process. Shuffled labels, on which nothing can be learned, must give no clear answer.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from service import plan as plans, raw_spec
from service.studies import lr_range, points
from service.studies.lr_range import Finding
from service.studies.requests import RateRange
from workers.training import loop, preparation
from workers.training.loop import Step

GOAL = 0.01
SEEDS = (0, 1)
STEPS, EPOCHS = 100, 30
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "momentum": 0.0},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "adam": {"optimizer": "adam"},
}
MODELS: dict[str, dict[str, Any]] = {"mlp": {"type": "mlp"}, "linear": {"type": "linear"}}


def save_digits(folder: Path, *, shuffled: bool = False) -> Path:
    """The digits as the service keeps them; shuffled: with labels that say nothing."""
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    np.save(folder / "x.npy", digits.data.astype(np.float32))
    np.save(folder / "y.npy", np.random.default_rng(5).permutation(labels) if shuffled else labels)
    return folder


def train(folder: Path, model: str, optimizer: str, rate: float, seed: int, **length: int) -> list[Step]:
    chosen = {"learning_rate": rate, "seed": seed, **OPTIMIZERS[optimizer], **length}
    raw = {"task": "classification", "dataset": "digits", "model": MODELS[model], "hyperparameters": chosen}
    spec = raw_spec.parse(raw | {"validation": {"every_steps": length.get("max_steps")}}, lambda _: [])
    return list(loop.train(preparation.prepare(spec, plans.make(spec, 1797), folder, classes=10)))


def find(folder: Path, model: str, optimizer: str, rates: Sequence[float], steps: int = STEPS) -> Finding:
    """The range test."""
    losses = np.empty((len(rates), len(SEEDS), steps))
    held_out: NDArray[np.float64] = np.empty(losses.shape[:2])
    for place, rate in enumerate(rates):
        for run, seed in enumerate(SEEDS):
            trained = train(folder, model, optimizer, rate, seed, max_steps=steps)
            losses[place, run] = [float(step.loss) for step in trained]
            last = trained[-1].validation
            held_out[place, run] = last["val_loss"] if last and np.isfinite(last["val_loss"]) else np.inf
    return lr_range.analyse(rates, losses, held_out)


def accuracy(
    folder: Path, model: str, optimizer: str, rate: float, epochs: int = EPOCHS, seeds: Sequence[int] = SEEDS
) -> float:
    """The best accuracy on the validation split, the mean over seeds."""
    runs = [train(folder, model, optimizer, rate, seed, epochs=epochs) for seed in seeds]
    return float(np.mean([max(step.validation["val_accuracy"] for step in run if step.validation) for run in runs]))


def main() -> int:
    """0 when every suggestion is within the goal and no answer is given on shuffled labels."""
    rates = points.rates(RateRange())
    missed = False
    with tempfile.TemporaryDirectory() as true, tempfile.TemporaryDirectory() as shuffled:
        digits, noise = save_digits(Path(true)), save_digits(Path(shuffled), shuffled=True)
        for model in MODELS:
            for optimizer in OPTIMIZERS:
                found = find(digits, model, optimizer, rates)
                best = max(accuracy(digits, model, optimizer, rate) for rate in rates)
                reached = accuracy(digits, model, optimizer, found.suggested) if found.suggested else 0.0
                none = find(noise, model, optimizer, rates)
                why = none.no_clear_answer["code"] if none.no_clear_answer else f"answered {none.suggested:.3g}"
                missed |= best - reached > GOAL or none.suggested is not None
                print(
                    f"{model:6} {optimizer:8} best after {STEPS} steps {found.best_after_steps:.3g}, edge "
                    f"{found.stability_edge:.3g}, suggested {found.suggested:.3g} {found.interval}: accuracy "
                    f"{reached:.4f}, brute force {best:.4f}; shuffled labels: {why}",
                    flush=True,
                )
    print(f"every suggestion within {GOAL} of the best rate, and none on shuffled labels: {not missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
