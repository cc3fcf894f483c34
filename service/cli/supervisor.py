"""Keeps the parts of the service running as child processes, and stops them together."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from service import clock
from service.cli import screen

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
QUICK_SECONDS = 30.0  # a part that lived this long had started well
MOST_QUICK_FAILURES = 5
WRONG_USE = 2  # a part that ends so would end so again
TICK_SECONDS = 0.1
INTERRUPTED_SECONDS = 3.0
PR_SET_PDEATHSIG = 1


class Child:
    """One part of the service: its process now, and how often it failed soon after its start."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name, self._command = name, command
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._due = 0.0
        self._delay = FIRST_DELAY
        self.quick_failures = 0
        self.first_failure = ""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tend(self) -> bool:
        """Starts the process when it is due, and takes note of its end. False when it is not worth another start."""
        if self._process is None:
            if time.monotonic() >= self._due:
                self._start()
            return True
        code = self._process.poll()
        return code is None or self._ended(code)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _start(self) -> None:
        # A group of its own: Ctrl-C in a terminal reaches every process of the group, and each part would take the
        # signal that is passed on to it for the second one, which means to stop at once.
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603
        self._started = time.monotonic()

    def _ended(self, code: int) -> bool:
        self._process = None
        how = _how(code)
        if time.monotonic() - self._started > QUICK_SECONDS:
            self.quick_failures, self._delay = 0, FIRST_DELAY
        delay = FIRST_DELAY
        # Killed from outside, by a person or for memory, it may well start the next time.
        if code != -signal.SIGKILL:
            self.quick_failures += 1
            self.first_failure = self.first_failure if self.quick_failures > 1 else how
            delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY)
        if code == WRONG_USE or self.quick_failures >= MOST_QUICK_FAILURES:
            return False
        log(f"{self.name} ended with {how}; starting it again in {delay:g} s")
        self._due = time.monotonic() + delay
        return True


def run(children: list[Child], stop_seconds: float, each_tick: Callable[[], None]) -> int:
    """Keeps the children alive until a signal stops them: 0, or 1 when one could not be kept or had to be killed."""
    with _signals() as received:
        try:
            while not received:
                for child in children:
                    if not child.tend():
                        _give_up(child)
                        _stop(children, stop_seconds, received)
                        return 1
                each_tick()
                time.sleep(TICK_SECONDS)
            log("stopping: running jobs are given back to the queue; a second signal stops at once")
            return _stop(children, stop_seconds, received)
        finally:
            for child in children:
                child.send(signal.SIGKILL)


def end_with(parent: int) -> None:
    """Asks the kernel to send SIGTERM to this process when its parent ends. It is kept when the program is replaced."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before this was asked
        os.kill(os.getpid(), signal.SIGTERM)


def log(sentence: str) -> None:
    screen.complain(f"{clock.now()} serve: {sentence}")


def _stop(children: list[Child], stop_seconds: float, received: list[int]) -> int:
    for child in children:
        child.send(signal.SIGTERM)
    end = time.monotonic() + stop_seconds
    interrupted = False
    while any(child.alive for child in children) and time.monotonic() < end:
        if len(received) > 1 and not interrupted:
            interrupted = True
            end = time.monotonic() + INTERRUPTED_SECONDS
            for child in children:
                child.send(signal.SIGINT)
        time.sleep(TICK_SECONDS / 2)
    late = [child.name for child in children if child.alive]
    for name in late:
        log(f"{name} did not stop in time and was killed")
    return 1 if late else 0


def _give_up(child: Child) -> None:
    times = "" if child.quick_failures == 1 else f" {child.quick_failures} times in a row, the first time"
    log(f"{child.name} ended{times} with {child.first_failure}; its own words stand above. Stopping everything")


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT in a list, in place of what they did before."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
