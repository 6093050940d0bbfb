"""Finds a C++ compiler that can run Metal kernels here, and says what to install where there is none."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

from ...decision import Accepted, Decision, Rejected
from ...errors import CompilerMissingError

# The oldest versions that have _Float16 in C++, which Metal's half needs.
_OLDEST = {"g++": 12 if platform.machine() in ("x86_64", "AMD64") else 13, "clang++": 15}
_ELSEWHERE = {"win32": "Use it inside WSL.", "darwin": "A Mac runs the kernel itself: use mx.fast.metal_kernel."}
_CLANGS = tuple(f"clang++-{version}" for version in range(24, 14, -1))
_GCCS = tuple(f"g++-{version}" for version in range(18, 11, -1))


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler's command, kind ("g++" or "clang++"), major version, and the line by which it names itself."""

    command: tuple[str, ...]
    kind: str
    version: int
    title: str

    def language(self) -> list[str]:
        """The options under which C++ computes as Metal does."""
        options = ["-std=gnu++17", "-O2", "-g1", "-gdwarf-4", "-w", "-fPIC", "-fvisibility=hidden", "-fsigned-char"]
        options += ["-fno-exceptions", "-fno-rtti", "-fno-strict-aliasing", "-fwrapv", "-fno-finite-loops"]
        options += ["-fno-math-errno", "-ffp-contract=off", "-fstack-clash-protection"]
        # What the runner tells one waiting call from another by: frames it can follow, and no two calls made one.
        options += ["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]
        if self.kind == "g++":
            options += ["-fexcess-precision=16", "-fno-crossjumping", "-fno-tree-tail-merge"]
        elif self.version >= 17:
            options += ["-ffloat16-excess-precision=none"]
        return options + (["-march=native"] if platform.machine() in ("x86_64", "AMD64") else [])

    def checks(self) -> list[str]:
        """The options that put a call before every memory access; the runner answers the calls."""
        if self.kind == "g++":
            return [
                "-fsanitize=thread",
                "-fsanitize=bounds-strict,integer-divide-by-zero",
                "--param=tsan-instrument-func-entry-exit=0",
            ]
        # Clang leaves out a read that a write to the same place follows, unless it is told not to.
        reads = ["-mllvm", "-tsan-instrument-read-before-write=1"]
        return ["-fsanitize=thread", "-fsanitize=array-bounds,integer-divide-by-zero", *reads]


def compiler() -> Decision:
    """Accepted with the compiler's path and version, or Rejected with the command that installs one."""
    found = _look(os.environ.get("CXX", ""), os.environ.get("PATH", ""))
    if isinstance(found, Rejected):
        return found
    return Accepted("C++ compiler", f"{found.command[0]}, {found.title}")


def find_compiler() -> Compiler:
    """The compiler to use.

    Raises:
        CompilerMissingError: there is none, or none that is new enough.
    """
    found = _look(os.environ.get("CXX", ""), os.environ.get("PATH", ""))
    if isinstance(found, Rejected):
        raise CompilerMissingError(f"The Metal emulator needs a C++ compiler: {found.reason}.", found.remedy)
    return found


@lru_cache
def _look(named: str, path: str) -> Compiler | Rejected:
    if not sys.platform.startswith("linux"):
        return Rejected(
            "C++ compiler", f"the emulator runs on Linux, and this is {sys.platform}", _ELSEWHERE.get(sys.platform, "")
        )
    refused = ""
    commands = [shlex.split(named)] if named.strip() else []
    commands += [[command] for command in ("g++", "c++", "clang++", *_GCCS, *_CLANGS)]
    for command in commands:
        if not shutil.which(command[0], path=path):
            continue
        found = _ask(command)
        if isinstance(found, Compiler):
            return found
        refused = refused or found
    return Rejected(
        "C++ compiler", refused or "there is no g++ or clang++ on the PATH", f"Install one: {_installation()}"
    )


def _ask(command: list[str]) -> Compiler | str:
    """What the compiler says of itself; words instead where it cannot be used."""
    answer = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    title = answer.stdout.strip().split("\n")[0]
    kind = "clang++" if "clang" in answer.stdout.lower() else "g++"
    version = re.search(r"(\d+)\.\d+", re.sub(r"\([^)]*\)", "", title))
    if answer.returncode or not version:
        return f"{command[0]} --version fails"
    if int(version.group(1)) < _OLDEST[kind]:
        return f"{title} is too old, it takes {kind} {_OLDEST[kind]} or newer"
    path = shutil.which(command[0]) or command[0]
    return Compiler((path, *command[1:]), kind, int(version.group(1)), title)


def _installation() -> str:
    for manager, line in (
        ("apt-get", "sudo apt-get install -y g++"),
        ("dnf", "sudo dnf install -y gcc-c++"),
        ("pacman", "sudo pacman -S gcc"),
        ("zypper", "sudo zypper install gcc-c++"),
        ("apk", "sudo apk add g++ linux-headers"),
    ):
        if any(os.access(f"{folder}/{manager}", os.X_OK) for folder in ("/usr/bin", "/sbin", "/usr/sbin", "/bin")):
            return line
    return "g++ 12 or newer, or clang++ 15 or newer, from the system's packages"
