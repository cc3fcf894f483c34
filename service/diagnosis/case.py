"""What is known of a run that is diagnosed, and how numbers are said."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.diagnosis.signals import Signal

RATE = "hyperparameters.learning_rate"
HELD_DOWN = 0.01  # weight decay that may hold a model down

BENGIO = "Bengio 2012, Practical recommendations for gradient-based training, section 3.1.1"
SMITH = "Smith 2018, A disciplined approach to neural network hyper-parameters, section 3"
PRECHELT = "Prechelt 1998, Early stopping - but when?"
GUO = "Guo et al. 2017, On calibration of modern neural networks, section 3"
GOODFELLOW = "Goodfellow, Bengio, Courville 2016, Deep learning, section 5.2"


@dataclass(frozen=True)
class Sibling:
    """A run that differs in the learning rate alone, and the lowest training loss that it came to.

    learned: whether it ended below its start, and with every loss finite.
    """

    run_id: str
    learning_rate: float
    lowest: float
    learned: bool = True


@dataclass(frozen=True, eq=False)
class Case:
    """All that is known of a run.

    train: its training loss. validation: its validation loss, and `scores` its other validation metrics.
    running: whether more is to come. parameters: of the spec, flat, with dotted names; empty where it is not known.
    """

    train: Signal | None
    validation: Signal | None = None
    scores: Sequence[Signal] = ()
    running: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    siblings: Sequence[Sibling] = ()

    @property
    def learning_rate(self) -> float | None:
        return learning_rate(self.parameters)

    @property
    def weight_decay(self) -> float:
        decay = self.parameters.get("hyperparameters.weight_decay")
        return float(decay) if isinstance(decay, int | float) else 0.0

    @property
    def held_down(self) -> bool:
        """Whether the weight decay is large enough to keep the model from learning."""
        return self.weight_decay >= HELD_DOWN


def learning_rate(parameters: Mapping[str, Any]) -> float | None:
    """Of a run; None where it has none. A script may call anything so, also a text or a list."""
    rate = parameters.get(RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0:
        return None
    return float(rate)


def rung(rate: float) -> float:
    """On the ladder 1, 3, 10, 30: the rungs on which rates are searched."""
    rate = min(max(rate, 1e-300), 1e300)  # a script may call anything a rate
    exponent = math.floor(math.log10(rate))
    digit = rate / 10.0**exponent
    return float(f"{(1 if digit < 1.8 else 3 if digit < 5.5 else 10) * 10.0**exponent:.1g}")


def short(number: float) -> float:
    """Four digits: what a person reads, and as many as the rules rest on."""
    return float(f"{number:.4g}")


def say(number: float) -> str:
    return f"{short(number):g}"
