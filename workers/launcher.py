"""Starts, watches and stops trainers on this machine: the worker's only door to processes."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from service import locks
from service.settings import trainer_environment
from workers.forkserver import MESSAGE_BYTES
from workers.trainer import Order

START_SECONDS = 120
KILL_SECONDS = 10
PR_SET_CHILD_SUBREAPER = 36


class Busy(Exception):
    """A process of an older attempt still holds the job's lock after being killed."""


@dataclass
class Trainer:
    """A trainer process: `status` is its wait status once it has ended."""

    pid: int
    lifeline: int  # closed when the worker dies: the trainer's sign to stop
    bell: int  # readable when the trainer has written points
    lock: int
    status: int | None = None
    asked_to_stop_at: float | None = None

    def fileno(self) -> int:
        return self.bell


@dataclass
class Launcher:
    """The local launcher: a forkserver and the trainers that it forked."""

    memory_bytes: int
    trainers: dict[int, Trainer] = field(default_factory=dict)
    _server: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None

    def warm(self) -> None:
        """Starts the forkserver unless it runs, and waits until it can fork. Takes seconds: torch is imported."""
        if self._control is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "workers.forkserver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=trainer_environment(),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.settimeout(START_SECONDS)
        if not ours.recv(MESSAGE_BYTES):
            raise RuntimeError("the forkserver ended while it started; its error stands above")
        self._control = ours

    def fileno(self) -> int | None:
        """Readable when `poll` has news; None while there is no forkserver."""
        return None if self._control is None else self._control.fileno()

    def start(self, order: Order, order_path: Path, lock: int) -> Trainer:
        """Forks a trainer. `lock` is the job's lock: the trainer's own until its last process is gone."""
        self.warm()
        assert self._control is not None
        lifeline_end, lifeline = os.pipe2(os.O_CLOEXEC)
        bell, bell_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        log = os.open(order_path.with_name("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        order_path.write_text(order.to_json())
        given = [log, lock, lifeline_end, bell_end]
        message = json.dumps({"order": str(order_path), "memory": self.memory_bytes}).encode()
        try:
            socket.send_fds(self._control, [message], given)
            pid = self._await_start()
        except OSError:
            for descriptor in (lifeline, bell):
                os.close(descriptor)
            self._drop_server()
            raise
        finally:
            for descriptor in (log, lifeline_end, bell_end):
                os.close(descriptor)
        trainer = Trainer(pid, lifeline, bell, lock)
        self.trainers[pid] = trainer
        return trainer

    def poll(self) -> list[Trainer]:
        """The trainers that have ended since the last call."""
        if self._control is not None:
            self._control.setblocking(False)
            with suppress(BlockingIOError):
                while self._control is not None:
                    self._hear(self._control.recv(MESSAGE_BYTES))
        return [trainer for trainer in self.trainers.values() if trainer.status is not None]

    def stop(self, trainer: Trainer) -> None:
        """Asks a trainer to stop at its next step."""
        if trainer.asked_to_stop_at is None:
            trainer.asked_to_stop_at = time.monotonic()
            self._signal(trainer, signal.SIGTERM)
            self._signal(trainer, signal.SIGCONT)

    def kill(self, trainer: Trainer) -> None:
        """Ends all processes of a trainer's session at once."""
        self._signal(trainer, signal.SIGKILL)

    def forget(self, trainer: Trainer) -> None:
        """Lets go of an ended trainer, and ends what it left behind."""
        with suppress(ProcessLookupError):
            os.killpg(trainer.pid, signal.SIGKILL)
        for descriptor in (trainer.lifeline, trainer.bell, trainer.lock):
            os.close(descriptor)
        del self.trainers[trainer.pid]

    def close(self) -> None:
        """Ends the forkserver; trainers that still live see their lifeline close."""
        self._drop_server()

    def _signal(self, trainer: Trainer, number: signal.Signals) -> None:
        # Until its end is read from the forkserver the pid is not given to another process.
        if trainer.status is None:
            with suppress(ProcessLookupError):
                os.killpg(trainer.pid, number)

    def _await_start(self) -> int:
        assert self._control is not None
        self._control.settimeout(START_SECONDS)
        while True:
            message = self._hear(self._control.recv(MESSAGE_BYTES))
            if self._control is None:
                raise ConnectionResetError("the forkserver ended")
            if message is not None:
                return message

    def _hear(self, content: bytes) -> int | None:
        """Takes in one message; the pid of a trainer that it says was started."""
        if not content:
            self._drop_server()
            return None
        message = json.loads(content)
        if "ended" in message and (trainer := self.trainers.get(message["ended"])):
            trainer.status = message["status"]
        started: int | None = message.get("started")
        return started

    def _drop_server(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(5)
            if self._server.poll() is None:
                self._server.kill()
                self._server.wait()
            self._server = None

    def reap_orphans(self) -> None:
        """Looks after processes whose parent died and that became this worker's children: see `adopt_orphans`.

        A trainer whose forkserver was killed is waited for here; what a trainer left behind is ended.
        """
        server = self._server.pid if self._server is not None else None
        for pid in _children():
            if pid == server:
                continue
            trainer = self.trainers.get(pid)
            if trainer is None:
                _end_stranger(pid, self.trainers)
            with suppress(ChildProcessError):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended and trainer is not None:
                    trainer.status = status


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent dies, so that none is lost sight of."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER was refused")


def seize(path: Path) -> int:
    """The job's lock for a new attempt; a process of an older one that still holds it is killed first.

    Raises Busy when the holder does not die in time.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while (descriptor := locks.take(path)) is None:
        if time.monotonic() > deadline:
            raise Busy
        _kill_holder(path)
        time.sleep(0.02)
    return descriptor


def _kill_holder(path: Path) -> None:
    with suppress(ValueError, OSError, psutil.Error):
        pid, created = path.read_text().split()
        # The number may belong to another process by now: its start time tells.
        if abs(psutil.Process(int(pid)).create_time() - float(created)) < 0.1:
            os.killpg(int(pid), signal.SIGKILL)


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def _end_stranger(pid: int, trainers: dict[int, Trainer]) -> None:
    """Kills a process that a trainer left behind, unless the trainer itself still lives."""
    with suppress(ProcessLookupError):
        if os.getsid(pid) not in trainers:
            os.kill(pid, signal.SIGKILL)
