"""What the system tells in files and through small programs; nothing where it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import in_words

ROOT = Path("/")


def text(path: Path) -> str:
    """A file's text, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def said(command: Sequence[str], timeout: float = 5.0) -> str:
    """What a program prints, empty where it is absent, fails, or takes longer than `timeout` seconds."""
    try:
        ran = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def refused(command: Sequence[str], timeout: float = 5.0) -> str:
    """Why a program that is there fails, in its own words; empty where it is absent or does its work."""
    try:
        ran = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, check=False
        )
    except FileNotFoundError:
        return ""
    except (OSError, subprocess.SubprocessError) as err:
        return in_words(err)
    words = " ".join((ran.stderr.strip() or ran.stdout.strip()).split())
    return (words or f"exit status {ran.returncode}") if ran.returncode else ""


def sysctl(name: str) -> str:
    """A value of a Mac's kernel."""
    return said(["/usr/sbin/sysctl", "-n", name])


def control_groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """The folders of the control groups that bind this process in `controller`, its own first and then its parents'."""
    for line in text(root / "proc/self/cgroup").splitlines():
        hierarchy, controllers, path = [*line.split(":", 2), "", ""][:3]
        if hierarchy == "0" and not controllers:
            yield from _up(root / "sys/fs/cgroup", path)
        elif controller in controllers.split(","):
            yield from _up(root / "sys/fs/cgroup" / controller, path)


def _up(mount: Path, path: str) -> Iterator[Path]:
    # A container may see its host's path here, with no such folder: the mount itself is its group then.
    group = mount / Path(*(part for part in path.split("/") if part not in ("", "..")))
    for folder in (group, *group.parents):
        yield folder
        if folder == mount:
            return
