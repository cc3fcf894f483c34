"""A crew: the processes that train one job together, started by PyTorch's launcher, and what becomes of it.

The process that the worker knows computes nothing. It shares its group, folder and lock with the others, and ends as
the one did that decides: the first that ended badly, or the leader.
"""

import os
import signal
import traceback
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from time import monotonic

from workers import trainer
from workers.trainer import GRACE_SECONDS, Order

LEADER = 0
FOLLOW_SECONDS = 5.0  # from the end of the leader to that of the others
SETTLE_SECONDS = 1.0  # from one bad end to those that have the same cause


def run(order: Order, lifeline: int, bell: int) -> int:
    """Trains as ordered in a process for each device, and leaves the outcome of the one that decides; its exit code.

    Ends by the same signal if that one did. See `trainer.run`.
    """
    from torch import multiprocessing  # here, because whoever only writes orders needs no torch

    # Until there is a leader to tell, a wish to stop waits; it must not be lost on a process that is just forked.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    context = multiprocessing.start_processes(  # type: ignore[attr-defined, no-untyped-call]
        _member, (order, lifeline, bell), len(order.devices), join=False, start_method="fork"
    )
    members: list[ForkProcess] = context.processes
    signal.signal(signal.SIGTERM, lambda *_: members[LEADER].terminate())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    decides = _decided(order, members, lifeline)
    _end(members, FOLLOW_SECONDS if decides == LEADER and members[LEADER].exitcode == 0 else 0.0)
    with suppress(FileNotFoundError):
        _outcome(order, decides).rename(order.outcome_path)
    code = members[decides].exitcode or 0
    if code < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _member(rank: int, order: Order, lifeline: int, bell: int) -> None:
    code = 1
    try:
        own = replace(order, rank=rank, device=order.devices[rank], outcome_path=str(_outcome(order, rank)))
        code = trainer.run(own, lifeline, bell)
    except BaseException:
        traceback.print_exc()
    finally:
        # The threads of the exchange would be waited for, and the others may be gone.
        os._exit(code)


def _outcome(order: Order, rank: int) -> Path:
    return Path(f"{order.outcome_path}.{rank}")


def _decided(order: Order, members: list[ForkProcess], lifeline: int) -> int:
    """Waits for the end of one that decides how the attempt ended, or for that of the worker: its rank."""
    alive: list[int] = [lifeline]
    deadline = None
    while True:
        # Taken once: one that ended between two looks would be neither waited for nor seen to have ended.
        codes = [member.exitcode for member in members]
        if any(codes):
            # One that was killed lets go of the others before it counts as ended, and these may end first.
            _wait_for_all(members, SETTLE_SECONDS)
            bad = [rank for rank, member in enumerate(members) if member.exitcode]
            return min(bad, key=lambda rank: _wrote_at(order, rank))
        if codes[LEADER] == 0 or (deadline is not None and monotonic() >= deadline):
            return LEADER
        running = [member.sentinel for member, code in zip(members, codes, strict=True) if code is None]
        ready = wait([*running, *alive], None if deadline is None else max(0.0, deadline - monotonic()))
        if lifeline in ready:
            # They see it too, and stop between two steps; one that does not is not waited for any longer than alone.
            alive, deadline = [], monotonic() + GRACE_SECONDS + 1


def _wrote_at(order: Order, rank: int) -> int:
    """When it wrote its outcome. Whoever was killed has written none, and what others then write is of that."""
    try:
        return _outcome(order, rank).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _wait_for_all(members: list[ForkProcess], seconds: float) -> None:
    deadline = monotonic() + seconds
    for member in members:
        member.join(max(0.0, deadline - monotonic()))


def _end(members: list[ForkProcess], seconds: float) -> None:
    _wait_for_all(members, seconds)
    for member in members:
        if member.exitcode is None:
            member.kill()
        member.join()
