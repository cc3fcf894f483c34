"""Lightning's `Trainer` on the work of `loops`, run by the interpreter that has it: `lightning_loop.py CASE FOLDER`.

For each line on standard input, a number of steps, it trains so many and answers the seconds they took. The loss of
every step goes to Lightning's own logger, the state is kept twice, and the split that is held back is judged as in
`loops`.
"""

import logging
import sys
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import loops
from benchmarks.loops import Case, Samples


class Module(lightning.LightningModule):  # type: ignore[misc]
    """A case as Lightning wants it."""

    def __init__(self, case: Case, samples: Samples) -> None:
        super().__init__()
        self.model: nn.Module = case.model()
        self.samples = samples

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss = loops.loss_of(self.model, *batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, _batch: list[Tensor], _: int) -> None:
        self.log_dict(loops.judge(self.model, self.samples.x_held_back, self.samples.y_held_back))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters())


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    [case] = [each for each in loops.cases() if each.name == name]
    samples = Samples(*torch.load(folder / "samples.pt"))
    print("ready", flush=True)
    for line in sys.stdin:
        began = perf_counter()
        train(case, samples, int(line), folder)
        print(perf_counter() - began, flush=True)


def train(case: Case, samples: Samples, steps: int, folder: Path) -> None:
    torch.manual_seed(0)
    kept = ModelCheckpoint(folder / "kept", every_n_train_steps=steps // 2, save_top_k=-1)
    settings: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        logger=CSVLogger(folder),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        callbacks=[kept],
        **settings,
    )
    # The judge takes the whole split at once, as in the other loops.
    whole = DataLoader(TensorDataset(torch.zeros(1)))
    trainer.fit(Module(case, samples), loops.loaded(samples, case.batch), whole)
    assert trainer.global_step == steps


if __name__ == "__main__":
    main()
