"""What a tracker's own library takes, run by the interpreter that has it: `peer_libraries.py NAME FOLDER`.

It knows nothing of this project: the values to record come in FOLDER/values.json, and FOLDER/seen.json gets points
recorded a second, the median seconds of a read, and the values that were read. Three metrics are recorded a step.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POINTS = 1000  # of a read
REPEATS = 3


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    losses = json.loads((folder / "values.json").read_text())
    record, read = {"trackio": trackio, "tensorboard": tensorboard, "aim": aim}[name](folder)
    begin = time.perf_counter()
    record(losses)
    recorded = 3 * len(losses) / (time.perf_counter() - begin)
    times, values = [], []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        values = read()
        times.append(time.perf_counter() - begin)
    seen = {"recorded": recorded, "reading": statistics.median(times), "values": values}
    (folder / "seen.json").write_text(json.dumps(seen))


Ways = tuple[Callable[[list[float]], None], Callable[[], list[float]]]


def trackio(folder: Path) -> Ways:
    """Its local database; read as its dashboard does, in this process."""
    os.environ |= {"TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1"}
    import trackio as library
    from trackio.sqlite_storage import SQLiteStorage

    library.init(project="benchmark", name="long", embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def record(losses: list[float]) -> None:
        for step, loss in enumerate(losses, start=1):
            library.log({"train_loss": loss, "learning_rate": loss, "grad_norm": loss}, step=step)
        library.finish()

    def read() -> list[float]:
        logs: list[dict[str, Any]] = SQLiteStorage.get_logs("benchmark", "long", max_points=POINTS)
        return [log["train_loss"] for log in logs]

    return record, read


def tensorboard(folder: Path) -> Ways:
    """An event file. A read loads all of it, as its server does once and whenever more is written."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary import Writer

    def record(losses: list[float]) -> None:
        writer = Writer(str(folder / "events"))
        for step, loss in enumerate(losses, start=1):
            writer.add_scalar("train_loss", loss, step)
            writer.add_scalar("learning_rate", loss, step)
            writer.add_scalar("grad_norm", loss, step)
        writer.close()

    def read() -> list[float]:
        events = EventAccumulator(str(folder / "events"), {"tensors": POINTS})
        events.Reload()
        return [event.tensor_proto.float_val[0] for event in events.Tensors("train_loss")]

    return record, read


def aim(folder: Path) -> Ways:
    """Its repository. A read samples one metric as its pages have it done, through the run that is still open: it
    spares a read the index, which its server makes afterwards.
    """
    from aim import Repo, Run
    from aim.storage.context import Context

    repository = Repo.from_path(str(folder / "aim"), init=True)
    run = Run(repo=repository, system_tracking_interval=None, log_system_params=False, capture_terminal_logs=False)

    def record(losses: list[float]) -> None:
        for step, loss in enumerate(losses, start=1):
            run.track(loss, name="train_loss", step=step)
            run.track(loss, name="learning_rate", step=step)
            run.track(loss, name="grad_norm", step=step)

    def read() -> list[float]:
        metric = run.get_metric("train_loss", Context({}))
        _, (values,) = metric.data.view("val").sample(POINTS).items_list()
        return [float(value) for value in values]

    return record, read


if __name__ == "__main__":
    main()
