"""Commands that copy the database to a file and put it back. They need no running service."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli import screen
from service.cli.server import read_settings


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    as_json: screen.AsJson = False,
) -> None:
    """Write the database to FILE, while the service runs or not: users, jobs, runs, curves.

    The arrays of data sets, logs and checkpoints are files of their own in the home, and not in it.
    """
    from service.backup import save

    revision = save(read_settings(), file, force=force)
    size = file.stat().st_size
    if as_json:
        screen.say_json({"file": str(file), "bytes": size, "revision": revision})
    else:
        screen.say(f"{file}: {size / 2**20:.1f} MiB, checked")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup; it is left as it is.")],
    as_json: screen.AsJson = False,
) -> None:
    """Put the backup FILE in the place of the database. The service must be stopped.

    The replaced database is kept beside it under a dated name. Tokens are again those of the backup, also the ones
    revoked since.
    """
    from service import backup as backups

    settings = read_settings()
    restored = backups.restore(settings, file)
    kept = str(restored.kept) if restored.kept else None
    if as_json:
        screen.say_json({"file": str(file), "revision": restored.revision, "replaced": kept})
        return
    screen.say(f"{settings.database_path} is as {file} was")
    if kept:
        screen.say(f"the replaced one is {kept}")
