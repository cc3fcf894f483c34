"""What the doctor looks at on the disk: the home, its file system, free space, and what lies about."""

import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from service.settings import Settings

# SQLite's locks and its shared memory do not work there: commits are lost, or take seconds.
NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "ncpfs", "ocfs2",
}  # fmt: skip
DOUBTFUL_FILE_SYSTEMS = {"9p", "virtiofs", "vboxsf"}
COPY_DAYS = 30


@dataclass(frozen=True)
class Check:
    """One thing looked at, and what to do about it."""

    name: str
    verdict: Literal["ok", "warn", "bad"]
    finding: str
    advice: str = ""


def home(settings: "Settings") -> Check:
    try:
        facts = settings.home.stat()
    except FileNotFoundError:
        return Check("home", "warn", f"{settings.home} is not there yet", "trainbox serve makes it")
    except OSError as error:
        return Check("home", "bad", f"{settings.home}: {error.strerror}", "set TRAINBOX_HOME to a folder of your own")
    if not stat.S_ISDIR(facts.st_mode):
        return Check("home", "bad", f"{settings.home} is no folder", "set TRAINBOX_HOME to a folder")
    open_to_others = [path for path in (settings.home, settings.token_path) if _open_to_others(path)]
    if open_to_others:
        names = ", ".join(map(str, open_to_others))
        return Check("home", "bad", f"other users can open {names}", f"chmod go-rwx {names}")
    if not _writable(settings.home):
        return Check("home", "bad", f"{settings.home} cannot be written", "run as the user of the service")
    return Check("home", "ok", str(settings.home))


def file_system(settings: "Settings") -> Check:
    kind = file_system_type(settings.home)
    advice = "set TRAINBOX_HOME to a folder on a local disk"
    if kind in NETWORK_FILE_SYSTEMS:
        return Check("file system", "bad", f"{kind} is a network file system: SQLite can lose data on it", advice)
    if kind in DOUBTFUL_FILE_SYSTEMS or kind.startswith("fuse"):
        return Check("file system", "warn", f"{kind} may not keep SQLite's locks", advice)
    return Check("file system", "ok", kind)


def file_system_type(path: Path) -> str:
    """The type of the mount that the path, or the folder that will hold it, lies on."""
    import psutil

    existing = _existing(path).resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if existing.is_relative_to(Path(mount.mountpoint))]
    # Of two mounts on the same place, the later one is seen.
    nearest = max(enumerate(mounts), key=lambda each: (len(Path(each[1].mountpoint).parts), each[0]), default=None)
    return "unknown" if nearest is None else str(nearest[1].fstype)


def disk(settings: "Settings") -> Check:
    from service import disk as disks

    existing = _existing(settings.home)
    usage = shutil.disk_usage(existing)
    finding = f"{usage.free / 2**30:.1f} GiB free, {usage.free / usage.total:.0%}"
    missing = disks.lack(existing, settings.min_free_mib)
    if missing is not None:
        return Check("disk", "bad", missing, "free some space: until then no job is taken in")
    return Check("disk", "ok", finding)


def reserve(settings: "Settings") -> Check:
    from service import disk as disks

    if disks.has_reserve(_existing(settings.home)):
        return Check("reserve", "ok", f"{disks.RESERVE_BYTES >> 20} MiB, let go when the disk is full")
    advice = "the service makes it within a minute of there being room"
    return Check("reserve", "warn", "not there: a full disk could not be emptied through the API", advice)


def copies(settings: "Settings") -> Check:
    """Copies of the database that migrations and restores have left beside it: nobody removes them."""
    beside = f"{settings.database_path.name}."
    found = [path for path in _entries(settings.home) if path.name.startswith(beside)]
    size = sum(path.stat().st_size for path in found)
    finding = f"{len(found)} beside the database, {size / 2**20:.0f} MiB"
    old = [path for path in found if time.time() - path.stat().st_ctime > COPY_DAYS * 86_400]
    if old:
        names = " ".join(sorted(map(str, old)))
        return Check("copies", "warn", f"{finding}; {len(old)} older than {COPY_DAYS} days", f"rm {names}")
    return Check("copies", "ok", finding if found else "none beside the database")


def _open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False


def _writable(folder: Path) -> bool:
    import os

    return os.access(folder, os.W_OK | os.X_OK)


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # the check of the home tells
        return []
