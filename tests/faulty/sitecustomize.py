"""Makes trainers misbehave: Python imports this module at its start, and jobs with the tag `fault` choose from FAULTS.

Nothing of it is in the product: a test puts this folder on the path of its worker, which passes it on.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

LONG = 1000.0
NOBODY = 65534


def sleep_in_a_step() -> None:
    _before_step(20, lambda: time.sleep(LONG))


def dawdle() -> None:
    """Takes its time in its first attempt once it has begun, so that whoever wants to meet it under way does."""
    if _attempt() == 1:
        _before_each_step(range(100, 3000), lambda: time.sleep(0.005))


def dawdle_each_time() -> None:
    _before_each_step(range(50, 1000), lambda: time.sleep(0.002))


def keep_pace() -> None:
    """Sleeps through most of each step, so that steps take as long beside others as alone."""
    _before_each_step(range(1, 3000), lambda: time.sleep(0.01))


def sleep_before_the_first_step() -> None:
    time.sleep(LONG)


def talk_without_a_step() -> None:
    while True:
        os.write(1, b"still here\n")
        time.sleep(0.001)


def stop_itself() -> None:
    _before_step(20, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def print_much() -> None:
    """Short lines, one line of many bytes without an end, and bytes that are no text."""
    for number in range(300_000):
        os.write(1, f"line {number} of many, which are all kept or all left out\n".encode())
    long_line = b"x" * (1 << 20)
    for _ in range(16):
        os.write(1, long_line)
    os.write(2, b"\xff\x00\x1b[31m" * 1000)
    os.write(1, b"\nthe last line\n")


def print_a_gigabyte() -> None:
    for _ in range(1024):
        os.write(1, b"x" * (1 << 20))
    os.write(1, b"\nthe last line\n")


def close_the_log() -> None:
    os.close(1)
    os.close(2)


def hear_no_sigterm() -> None:
    """Goes on whatever it is told, and has a grandchild that belongs to no group of its."""
    _leave(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def leave_children() -> None:
    _leave(10)
    for _ in range(90):
        subprocess.Popen(["sleep", str(LONG)])


def _leave(count: int) -> None:
    """Orphans in sessions of their own; one of them has inherited all that is open here."""
    for number in range(count):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                if number == 0:
                    time.sleep(LONG)
                os.execvp("sleep", ["sleep", str(LONG)])
            os._exit(0)
        os.wait()


def leave_a_deaf_family() -> None:
    """Each child shows only when its parent has been killed, which does not hear that it is to stop."""
    subprocess.Popen(["sh", "-c", "trap '' TERM; setsid sh -c 'setsid sleep 1000 & sleep 1000' & sleep 1000"])


def leave_somebody_elses_child() -> None:
    """What a program that changes its user can leave behind: nobody without power over that user can end it."""
    if os.fork() == 0:
        os.setuid(NOBODY)
        os.execvp("sleep", ["sleep", str(LONG)])


def become_somebody_elses() -> None:
    def change() -> None:
        os.setuid(NOBODY)
        time.sleep(LONG)

    _before_step(20, change)


def kill_parent_and_itself() -> None:
    def end() -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    _before_step(20, end)


def kill_itself_twice() -> None:
    """In its first two attempts, each time when a step has been taken and is not recorded yet."""
    if (number := {1: 18, 2: 33}.get(_attempt())) is not None:
        _before_step(number, lambda: os.kill(os.getpid(), signal.SIGKILL))


def exit_with_0() -> None:
    _before_step(20, lambda: os._exit(0))


def exit_with_1() -> None:
    _before_step(20, lambda: os._exit(1))


def exit_with_137() -> None:
    _before_step(20, lambda: os._exit(137))


def read_nowhere() -> None:
    _before_step(20, lambda: ctypes.string_at(0))


def write_its_first_checkpoint_for_ever() -> None:
    from workers import checkpoints

    if _attempt() == 1:
        checkpoints._sync = lambda file: time.sleep(LONG)


def write_nonsense_into_its_spool() -> None:
    def write() -> None:
        with open("spool", "r+b") as spool:
            spool.write(b"nonsense")

    _before_step(20, write)


def leave_a_senseless_outcome() -> None:
    def leave() -> None:
        with open("outcome.json", "w") as outcome:
            outcome.write('{"status": "failed", "code": "fatigue"}')
        os._exit(1)

    _before_step(20, leave)


def compute_inexactly() -> None:
    """Twice what PyTorch warns of, and something else that it warns of."""
    import warnings

    import torch

    def compute() -> None:
        for _ in range(2):
            torch.zeros(4).put_(torch.tensor([1]), torch.tensor([2.0]))
        warnings.warn("nothing that matters", stacklevel=1)

    _before_step(20, compute)


def take_all_memory() -> None:
    taken: list[bytes] = []

    def take() -> None:
        while True:
            taken.append(bytes(1 << 24))

    _before_step(20, take)


def fill_the_memory() -> None:
    """More than there is, and all of it really used."""
    taken: list[bytes] = []

    def fill() -> None:
        while True:
            taken.append(b"x" * (1 << 24))

    _before_step(20, fill)


FAULTS: dict[str, Callable[[], None]] = {
    name: found for name, found in list(globals().items()) if callable(found) and not name.startswith("_")
}


def _attempt() -> int:
    return int(os.path.basename(os.getcwd()).removeprefix("a"))


def _before_step(number: int, act: Callable[[], object]) -> None:
    """Lets training begin, and does this when the step should come."""
    _before_each_step(range(number, number + 1), act)


def _before_each_step(numbers: range, act: Callable[[], object]) -> None:
    from workers import trainer

    record = trainer.record

    def disturbed(steps: Iterable[Any]) -> Iterator[Any]:
        for step in steps:
            if step.number in numbers:
                act()
            yield step

    trainer.record = lambda steps, *others: record(disturbed(steps), *others)


def _install() -> None:
    from workers import trainer

    attempt = trainer.attempt

    def misbehave(order: Any, stop: Any, bell: int) -> Any:
        if (name := order.spec["tags"].get("fault")) is not None:
            FAULTS[name]()
        return attempt(order, stop, bell)

    trainer.attempt = misbehave


if "workers.forkserver" in sys.orig_argv:
    _install()
