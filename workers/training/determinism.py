"""What keeps a run from coming out the same again: what is known when it begins, and what PyTorch warns of later."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch.nn.modules.batchnorm import _BatchNorm

from workers.training.preparation import Training

SAYS_SO = re.compile(r"determinis", re.IGNORECASE)
LENGTH = 300
MOST = 20  # a model of somebody else may warn of a new thing at every step


def known(training: Training) -> list[str]:
    """In which the training differs from what its spec says, for want of memory on the device, in sentences."""
    parts, planned = training.micro_batches, training.plan.micro_batches_per_step
    if parts == planned:
        return []
    sentence = f"a batch is computed in {parts} parts instead of {planned}, which rounds in another way"
    if any(isinstance(module, _BatchNorm) for module in training.model.modules()):
        sentence += ", and the model normalises over the samples of each part"
    return [sentence]


@contextmanager
def heard(tell: Callable[[str], None]) -> Iterator[None]:
    """Passes on what PyTorch warns of under `use_deterministic_algorithms`, each thing once; it is printed too.

    What `tell` raises comes out of the operation that was warned of.
    """
    told: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def listen(message: Warning | str, *others: object) -> None:
            show(message, *others)  # type: ignore[arg-type]
            sentence = _first_clause(str(message))
            if SAYS_SO.search(str(message)) and sentence not in told and len(told) < MOST:
                told.add(sentence)
                tell(sentence)

        warnings.showwarning = listen  # type: ignore[assignment]
        yield


def _first_clause(message: str) -> str:
    """Without what PyTorch goes on to say of its settings and of where to complain."""
    return " ".join(re.split(r", but you|\. |\(Triggered", message)[0].split())[:LENGTH]
