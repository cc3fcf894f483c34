"""Starts the child that looks into a file, watches it, and reads its answer. No byte of the file is decoded here."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from service.errors import DiskFull, FieldProblem, InvalidInput, Stopping
from service.inspection.found import Asked, Found
from service.settings import trainer_environment

LOOK_SECONDS = 0.02
PATIENCE = 6  # seconds of waiting for each second of CPU: others compute here too

log = structlog.get_logger()


def inspect(source: int, folder: Path, asked: Asked, stopping: Callable[[], bool]) -> Found:
    """What a file holds; its arrays are in the folder afterwards, on the disk.

    source: a descriptor of the file, a regular one. Raises InvalidInput for what is wrong with the file, DiskFull, or
    Stopping.
    """
    answer_path = folder.with_name("answer.json")
    with answer_path.open("wb") as answer:
        child = subprocess.Popen(  # noqa: S603
            # Without -P a file in the folder could be imported.
            [sys.executable, "-P", "-m", "service.inspection", asked.to_json()],
            stdin=source,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=trainer_environment(),
            start_new_session=True,
        )
    try:
        _await(child, asked, stopping)
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode != 0:
        raise _refusal(child.returncode, asked)
    return _read(json.loads(answer_path.read_bytes()))


def _await(child: "subprocess.Popen[bytes]", asked: Asked, stopping: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE * asked.cpu_seconds
    while child.poll() is None and time.monotonic() < deadline:
        if stopping():
            raise Stopping
        time.sleep(LOOK_SECONDS)


def _read(answer: dict[str, Any]) -> Found:
    if "found" in answer:
        return Found(**answer["found"])
    if "full" in answer:
        raise DiskFull("there is no room on the disk for the arrays of this file")
    raise InvalidInput([FieldProblem(**problem) for problem in answer["problems"]])


def _refusal(code: int, asked: Asked) -> InvalidInput:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        message = f"to read it takes more than {asked.cpu_seconds} s"
        hint = "Parquet and NPZ are read faster than CSV; TRAINBOX_INSPECTION_SECONDS allows more"
        return InvalidInput([FieldProblem("body", "too_slow", message, hint)])
    log.warning("inspection failed", format=asked.format, exit_code=code)
    return InvalidInput([FieldProblem("body", "unreadable", "it is damaged, or takes too much memory to read")])
