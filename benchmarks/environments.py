"""Environments of their own for what the service is compared with, below `build/peers`, made at the first run."""

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ENVIRONMENTS = Path(__file__).parents[1] / "build" / "peers"


def installed(name: str, version: str, *, upon_ours: bool = False) -> Path | None:
    """The interpreter of an environment with a package; None, and why, where that cannot be installed.

    upon_ours: the package comes alone, and takes all that it needs from the environment of this process, so that both
    compute with one PyTorch, which is not fetched again either.
    """
    place = ENVIRONMENTS / f"{name}-{version}"
    interpreter, complete = place / "bin" / "python", place / "complete"
    if complete.exists():
        return interpreter
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", place], check=True)
    install = ["install", "--quiet", "--no-compile", f"{name}=={version}"]
    if upon_ours:
        ours = sysconfig.get_path("purelib")
        theirs = sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)})
        Path(theirs, "ours.pth").write_text(f"{ours}\n")
        install.append("--no-deps")
    command: Sequence[Any] = [sys.executable, "-m", "pip", "--python", interpreter, *install]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode != 0:
        reasons = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
        print(f"{name} {version} is left out, as pip cannot install it: {' '.join(reasons[-2:])}")
        return None
    complete.touch()
    return interpreter
