"""Proves every attention path on this machine: natively where there is Metal, the Metal kernels emulated elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..decision import Decision, Rejected
from .cases import GRIDS, Case, covering
from .device import device, machine
from .paths import PATHS, Path
from .proof import KERNELS, Proof, prove
from .traffic import Row, bytes_table, decode_time

QUICK = 8  # cases a path, of the covering hundred

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one path: its proofs, where they ran, and the reason if none could."""

    path: str
    where: str
    proofs: tuple[Proof, ...]
    decision: Decision | None = None

    @property
    def failed(self) -> tuple[Proof, ...]:
        return tuple(proof for proof in self.proofs if not proof.passed)

    @property
    def worst(self) -> Proof | None:
        """The proof with the least room to what is allowed."""
        return max(self.proofs, key=lambda proof: proof.error / proof.allowed, default=None)


@dataclass(frozen=True, slots=True)
class Verification:
    """A Verdict for every path, on `machine`.

    Where there is a compiler for the emulator, `traffic` counts the bytes of K and V that the decode kernels read, and
    `decode_seconds` is the time of one emulated decode over 2,048 keys.
    """

    verdicts: tuple[Verdict, ...]
    machine: str
    seconds: float
    traffic: tuple[Row, ...] = ()
    decode_seconds: float | None = None

    @property
    def ok(self) -> bool:
        """Whether everything that ran passed, and something ran."""
        return any(v.proofs for v in self.verdicts) and not any(v.failed for v in self.verdicts)


def verify(
    full: bool = False, progress: Progress | None = None, seen: Callable[[Verification], None] | None = None
) -> Verification:
    """Prove every path on a choice of cases; `full` on all cases of a set in which every pair of values meets.

    Progress hears of cases done, of all, and the path under way; it may raise to stop. `seen` hears after each case
    what has come of all until then.
    """
    began, heard = time.perf_counter(), progress or (lambda done, total, doing: None)
    plan = [(path, *_where(path), list(_cases(path, full))) for path in PATHS]
    total, done = sum(len(cases) for *_, reason, cases in plan if not reason), 0
    verdicts: list[Verdict] = []
    here, told = machine(), seen or (lambda found: None)
    for path, where, metal_kernel, reason, cases in plan:
        proofs: list[Proof] = []
        for case in cases if not reason else []:
            heard(done, total, f"{path.name}, {case}")
            proofs.append(prove(path.name if path.name in KERNELS else path.run, case, metal_kernel))
            done += 1
            now = Verdict(path.name, where, tuple(proofs))
            told(Verification((*verdicts, now), here, time.perf_counter() - began))
        verdicts.append(Verdict(path.name, where, tuple(proofs), reason if cases or reason else _not_here(path)))
    rows, decode = _traffic(lambda doing: heard(done, total, f"counting bytes: {doing}"))
    return Verification(tuple(verdicts), here, time.perf_counter() - began, rows, decode)


def _not_here(path: Path) -> Decision:
    """Why no case of any grid is for this path on this device."""
    return path.takes(covering("decode_quantized")[0].config, device())


def _traffic(report: Callable[[str], None]) -> tuple[tuple[Row, ...], float | None]:
    from .emulator import compiler

    if not compiler():
        return (), None
    rows = tuple(bytes_table(heard=report))
    report("one decode over 2 048 keys")
    return rows, decode_time()


def _where(path: Path) -> tuple[str, Any, Rejected | None]:
    """Where a path is proven here, what makes its kernels there, and why it cannot be."""
    from .emulator import compiler, metal_kernel

    here = device()
    if path.name not in KERNELS:
        return f"MLX on {here}", None, None
    if here == "metal":
        return "Metal", None, None
    found = compiler()
    if isinstance(found, Rejected):
        return "emulator", None, found
    return "emulator", metal_kernel, None


def _cases(path: Path, full: bool) -> Iterator[Case]:
    if path.name in KERNELS:
        found = [covering(path.name)]
    else:
        found = [[case for case in covering(grid) if path.takes(case.config, device())] for grid in GRIDS]
    for cases in filter(None, found):
        yield from cases if full else cases[:: max(1, len(cases) * len(found) // QUICK)]
