"""Checkpoints on disk: written whole or not at all, read only if every byte is as it was written. It knows no torch.

A checkpoint is a folder `a<attempt>-s<step>` with the weights, the rest of the state, and `manifest.json`, which holds
the size and SHA-256 of both; the SHA-256 of the manifest is what the queue points to. Without the rest of the state it
is of weights alone, and nothing goes on from there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from service.checkpoints import WEIGHTS, Kept, Made

STATE, MANIFEST = "state.pt", "manifest.json"
BLOCK = 1 << 20


class Unusable(Exception):
    """What lies on the disk is not what was written."""


@dataclass
class Digesting:
    """A file that is written from front to end, and its SHA-256 so far."""

    file: IO[bytes]
    sha256: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    def write(self, content: Any) -> int:
        part = memoryview(content).cast("B")
        self.file.write(part)
        self.sha256.update(part)
        self.size += len(part)
        return len(part)

    def flush(self) -> None:
        self.file.flush()


Dump = Callable[[Digesting], None]


def write(folder: Path, attempt: int, step: int, facts: Mapping[str, Any], dumps: Mapping[str, Dump]) -> Path:
    """Writes a checkpoint; it is on the disk when its path is returned, and before that its name ends in `.tmp`.

    facts: `{active_seconds, epoch, metrics, is_best}`, for `read`. dumps: what writes each file. Tries twice, then
    raises what the second attempt did: OSError, or RuntimeError, in which PyTorch wraps one.
    """
    place = folder / f"a{attempt}-s{step}"
    try:
        return _write(place, attempt, step, facts, dumps)
    except (OSError, RuntimeError):
        return _write(place, attempt, step, facts, dumps)


def _write(place: Path, attempt: int, step: int, facts: Mapping[str, Any], dumps: Mapping[str, Dump]) -> Path:
    draft = place.with_name(f"{place.name}.tmp")
    if not place.parent.exists():
        place.parent.mkdir(mode=0o700)
        for folder in (place.parent.parent, place.parent.parent.parent):  # the job's, and where that stands
            _sync_folder(folder)
    for left_over in (draft, place):
        shutil.rmtree(left_over, ignore_errors=True)
    draft.mkdir(mode=0o700)
    try:
        files = {}
        with ExitStack() as opened:
            *places, manifest = [opened.enter_context(_created(draft / name)) for name in (*dumps, MANIFEST)]
            for (name, dump), file in zip(dumps.items(), places, strict=True):
                written = Digesting(file)
                dump(written)
                files[name] = {"bytes": written.size, "sha256": written.sha256.hexdigest()}
            manifest.write(json.dumps({"step": step, "attempt": attempt, **facts, "files": files}).encode())
            for act in (_send, _sync):
                for file in (*places, manifest):
                    act(file)
        _sync_folder(draft)
        draft.rename(place)
        _sync_folder(place.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return place


def read(folder: Path, attempt: int, step: int) -> Made:
    """What a checkpoint just written says of itself. Raises Unusable."""
    try:
        content = (folder / f"a{attempt}-s{step}" / MANIFEST).read_bytes()
        found = json.loads(content)
        metrics = {str(name): float(value) for name, value in found["metrics"].items()}
        files = found["files"]
        seconds, sha256 = float(found["active_seconds"]), hashlib.sha256(content).hexdigest()
        kept = Kept(attempt, step, seconds, sha256, resumable=STATE in files)
        weights = files[WEIGHTS]
        return Made(
            kept, float(found["epoch"]), int(weights["bytes"]), str(weights["sha256"]), metrics, bool(found["is_best"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"its manifest cannot be read ({type(error).__name__})") from error


def verified(folder: Path, kept: Kept) -> Path:
    """The folder of a checkpoint whose every byte is as it was written. Raises Unusable, or OSError."""
    place = folder / kept.name
    if not place.is_dir():
        raise Unusable("it is gone")
    content = (place / MANIFEST).read_bytes()
    if hashlib.sha256(content).hexdigest() != kept.sha256:
        raise Unusable("its manifest was changed")
    for name, written in json.loads(content)["files"].items():
        size = (place / name).stat().st_size
        if size != written["bytes"]:
            raise Unusable(f"{name} has {size} bytes and had {written['bytes']}")
        if _sha256([place / name]) != written["sha256"]:
            raise Unusable(f"{name} was changed")
    return place


def remove(folder: Path, gone: Iterable[Kept]) -> None:
    for kept in gone:
        shutil.rmtree(folder / kept.name, ignore_errors=True)


def remove_strangers(folder: Path, known: Iterable[Kept]) -> None:
    """Removes what no longer counts or never did; only while no trainer of the job lives."""
    names = {kept.name for kept in known}
    with suppress(FileNotFoundError):
        for place in list(folder.iterdir()):
            if place.name not in names:
                shutil.rmtree(place, ignore_errors=True)


def _sha256(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(BLOCK):
                digest.update(part)
    return digest.hexdigest()


def _created(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _send(file: IO[bytes]) -> None:
    """Lets the kernel begin to write. Files that are all on their way are synced in two thirds of the time, with one
    commit of a journal; those of which nothing has been placed on the disk yet wait for one each.
    """
    file.flush()
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(file: IO[bytes]) -> None:
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
