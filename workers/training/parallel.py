"""Training by several processes, each of which computes its share of every batch. It knows no queue and no spool.

The first process leads: it alone validates, records and keeps checkpoints, and before each step it tells the others to
go on. Gradients go over sockets of the loopback device, those of GPUs the way that NCCL finds; words and losses have
pipes of their own: see `lines`.
"""

import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from workers.training import chance
from workers.training.chance import Chance
from workers.training.lines import Line, lay

# The worker's watchdog decides what takes too long, and whoever loses a process hears of it at once.
PATIENCE = timedelta(days=14)


class Word(IntEnum):
    """What the leader says while the others wait between two steps."""

    END = 0
    STEP = 1
    CHANCE = 2  # tell me the state of your generators


@dataclass(frozen=True)
class Alone:
    """One process, which computes whole batches."""

    count = 1
    leads = True
    others: tuple[int, ...] = ()

    def goes_on(self, wanted: bool) -> bool:
        return wanted

    def outputs(self, model: nn.Module) -> nn.Module:
        return model

    def share(self, batch: Tensor) -> Tensor:
        return batch

    def exchange(self, _last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def tell(self, _loss: Tensor) -> None:
        """There is nobody to tell."""

    def totals(self, losses: Tensor) -> Tensor:
        return losses

    def chances(self, device: torch.device) -> list[Chance]:
        return [chance.taken(device)]

    def dismiss(self) -> None:
        """There is nobody to dismiss."""


@dataclass(frozen=True)
class Together:
    """One of several processes. rank: 0 leads. module: the model, whose gradients are averaged as they are computed.

    others: the pids of the other processes. lines: to them, or to the leader.
    """

    rank: int
    count: int
    device: torch.device
    module: DistributedDataParallel
    others: tuple[int, ...]
    lines: Sequence[Line]

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def goes_on(self, wanted: bool) -> bool:
        """Whether there is another step: as the leader wants, who may ask for other things first. Raises LineCut."""
        if self.leads:
            if wanted:
                self._say(Word.STEP)
            return wanted
        [leader] = self.lines
        while (word := Word(leader.hear())) is Word.CHANCE:
            self._gathered()
        return word is Word.STEP

    def outputs(self, _model: nn.Module) -> nn.Module:
        """What to compute outputs with, so that gradients are exchanged."""
        return self.module

    def share(self, batch: Tensor) -> Tensor:
        """The rows of a batch that this process computes: as even as can be, and maybe none."""
        return batch.tensor_split(self.count)[self.rank]

    def exchange(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged with the last micro-batch of a step, and only added up with the others."""
        return nullcontext() if last else self.module.no_sync()

    def tell(self, loss: Tensor) -> None:
        """This process's share of the loss of a step, shape (): to read one of a GPU would be to wait for it."""
        if self.device.type == "cuda":
            distributed.reduce(loss, 0)
        elif not self.leads:
            self.lines[0].say_loss(loss.item())

    def totals(self, losses: Tensor) -> Tensor:
        """The sums over all processes of the leader's losses of all steps since it last asked, shape (steps,).

        Only as many as all have told, if one of them was lost. The leader has to ask now and then: the others wait when
        nobody hears them.
        """
        if self.device.type == "cuda":
            return losses
        for line in self.lines:
            told = torch.tensor(line.hear_losses(len(losses)), dtype=losses.dtype)
            losses = losses[: len(told)] + told
        return losses

    def chances(self, _device: torch.device) -> list[Chance]:
        """Of each process, in their order; only the leader asks, between two steps."""
        self._say(Word.CHANCE)
        return self._gathered()

    def dismiss(self) -> None:
        """Lets the others end; only the leader does, between two steps."""
        self._say(Word.END)

    def _say(self, word: Word) -> None:
        for line in self.lines:
            line.say(bytes([word.value]))

    def _gathered(self) -> list[Chance]:
        buffer = io.BytesIO()
        torch.save(chance.taken(self.device), buffer)
        own = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        distributed.all_gather(sizes, torch.tensor([len(own)]))
        most = max(int(size) for size in sizes)
        parts = [torch.zeros(most, dtype=torch.uint8) for _ in sizes]
        distributed.all_gather(parts, torch.cat([own, own.new_zeros(most - len(own))]))
        contents = [part[: int(size)].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]
        return [torch.load(io.BytesIO(content), weights_only=True) for content in contents]


Crew = Alone | Together


class Apart(Exception):
    """The processes do not go on from the same step."""


def join(
    model: nn.Module, device: torch.device, rank: int, count: int, meeting: Path, step: int, plain: bool
) -> Together:
    """Meets the other processes, each of which has the same model after the same step.

    meeting: a file that only they know. plain: whether each parameter surely has a gradient in each step, and what the
    model keeps besides its parameters is used by the leader alone, who validates.
    Raises Apart, or RuntimeError when one of the others is lost.
    """
    # Otherwise the whole network could speak to them.
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store = distributed.FileStore(str(meeting), count)  # type: ignore[attr-defined]
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    told = [torch.zeros(2, dtype=torch.int64) for _ in range(count)]
    lines = lay(meeting, rank, count, lambda: distributed.all_gather(told, torch.tensor([step, os.getpid()])))
    steps, pids = zip(*(each.tolist() for each in told), strict=True)
    if set(steps) != {step}:
        raise Apart(f"the processes would go on after the steps {', '.join(map(str, steps))}")
    # Where it looks for parameters that were not used it never arranges gradients anew, which would change the order
    # of a sum over more than two processes after a resume, and with it the last bit. To look costs a message a step, as
    # sending buffers does.
    module = DistributedDataParallel(model, broadcast_buffers=not plain, find_unused_parameters=count > 2 or not plain)
    return Together(rank, count, device, module, tuple(pid for pid in pids if pid != os.getpid()), lines)
