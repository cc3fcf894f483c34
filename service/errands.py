"""Errands that need torch, for the API, which has none: each is done by a short child process of its own.

The child is a program of the workers; order and answer are JSON.
"""

import json
import subprocess
import sys
import threading
from time import monotonic
from typing import Any

from service.errors import ErrandFailed, ErrandsBusy, FieldProblem, InvalidInput, Stopping
from service.settings import trainer_environment

MOST_AT_ONCE = 2
WAIT_SECONDS = 10.0  # for one of them to end
LONGEST_SECONDS = 60.0
LOOK_SECONDS = 0.5

_free = threading.BoundedSemaphore(MOST_AT_ONCE)


def run(name: str, order: dict[str, Any], stopping: threading.Event) -> dict[str, Any]:
    """The child's answer. stopping: when it is set, nobody waits for it any longer.

    Raises InvalidInput for what the child finds wrong with the order, ErrandsBusy, ErrandFailed, or Stopping.
    """
    if not _free.acquire(timeout=WAIT_SECONDS):
        raise ErrandsBusy
    try:
        answer: dict[str, Any] = json.loads(_answer(json.dumps({"errand": name, **order}), stopping))
    finally:
        _free.release()
    if "problems" in answer:
        raise InvalidInput([FieldProblem(**problem) for problem in answer["problems"]])
    if "failure" in answer:
        raise ErrandFailed(answer["failure"])
    return answer


def _answer(order: str, stopping: threading.Event) -> str:
    command = [sys.executable, "-m", "workers.errand"]
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=trainer_environment(), text=True
    ) as child:
        end = monotonic() + LONGEST_SECONDS
        given: str | None = order
        while True:
            try:
                told, _ = child.communicate(given, timeout=LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                given = None  # it has been passed on, or is being so
                if stopping.is_set():
                    child.kill()
                    raise Stopping from None
                if monotonic() > end:
                    child.kill()
                    raise ErrandFailed(f"it was not done within {LONGEST_SECONDS:.0f} seconds") from None
    if child.returncode != 0:
        raise ErrandFailed("its process died, perhaps for want of memory")
    return told
