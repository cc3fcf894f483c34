"""A process with torch imported that forks trainers: a job begins in milliseconds, not in seconds.

It computes nothing on more than one thread and never touches a GPU or the database, so its children may do all that.
Messages are JSON on a socket of packets. In: `{"order": path, "memory": bytes}` with the descriptors of the log, the
lock, the lifeline and the bell. Out: `{"ready": true}`, then `{"started": pid}` for each order, and
`{"ended": pid, "status": wait status}`. When the socket closes, it goes.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers import crew, processes, trainer

DESCRIPTORS = 4
MESSAGE_BYTES = 65_536


def main(control: socket.socket) -> None:
    """Serves until the worker at the other end of `control` is gone."""
    from workers import training  # here, because the worker imports this module too, and needs no torch

    training.warm()
    gc.collect()
    gc.freeze()  # objects that the collector never touches stay shared with the children
    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # A drain reaches every process of a terminal: the worker decides when this one goes. SIGTERM waits instead of
    # being ignored, so that it is not lost on a trainer that is asked to stop the moment it is forked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    send(control, {"ready": True})
    while True:
        readable, _, _ = select.select([control.fileno(), ended], [], [])
        if ended in readable:
            with suppress(BlockingIOError):
                os.read(ended, 4096)
            for pid, status in _ended_children():
                send(control, {"ended": pid, "status": status})
        if control.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, DESCRIPTORS)
            if not message:
                return
            pid = _fork(json.loads(message), descriptors, control)
            for descriptor in descriptors:
                os.close(descriptor)
            send(control, {"started": pid})


def send(control: socket.socket, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        control.send(json.dumps(message).encode())


def _ended_children() -> list[tuple[int, int]]:
    found = []
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            found.append((pid, status))
    return found


def _fork(message: dict[str, Any], descriptors: list[int], control: socket.socket) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        control.close()
        code = _become_trainer(message, *descriptors)
    except BaseException:
        traceback.print_exc()
    finally:
        # Never back into the loop of the process that forked, and without its exit handlers.
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become_trainer(message: dict[str, Any], log: int, _lock: int, lifeline: int, bell: int) -> int:
    # The lock stays open, and with it locked, while this process lives or any that inherits it.
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Of the data segment, not of addresses: a GPU driver reserves far more addresses than it uses.
    resource.setrlimit(resource.RLIMIT_DATA, (message["memory"], message["memory"]))
    order = trainer.Order.from_json(Path(message["order"]).read_text())
    os.chdir(Path(message["order"]).parent)
    os.environ[processes.MARK] = os.getcwd()
    gc.unfreeze()
    return crew.run(order, lifeline, bell) if order.devices else trainer.run(order, lifeline, bell)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
