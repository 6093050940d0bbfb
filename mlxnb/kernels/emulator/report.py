"""What one launch of a kernel did: findings of the sanitizer, and bytes by buffer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Grade = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `kind` is its short name (see findings.KINDS), `message` says what, where and by which thread.

    `line` is counted from 1 in `part`: "source", "header" or the name of another file; None where it is not known.
    `buffer` is the array concerned, "" where there is none; `count` is how often it was found at that place.
    """

    kind: str
    message: str
    line: int | None
    part: str
    count: int
    grade: Grade
    buffer: str = ""

    def __str__(self) -> str:
        place = "" if self.line is None else f" (line {self.line}{'' if self.part == 'source' else f' of {self.part}'})"
        return f"{self.kind}{place}: {self.message}" + (f" ({self.count} times)" if self.count > 1 else "")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that a kernel moved between one buffer and its threads, as its loads and stores asked for them.

    `read` and `written` count every access, `read_unique` and `written_unique` every byte once, and
    `read_unique_per_threadgroup` every byte once for each threadgroup that reads it; `reads`, `writes` are accesses.
    """

    read: int = 0
    written: int = 0
    read_unique: int = 0
    written_unique: int = 0
    read_unique_per_threadgroup: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class ThreadgroupArray:
    """A threadgroup array: its size, and the bytes read and written, over all threadgroups."""

    size: int
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Report:
    """One launch. `seconds` is the emulation's own time; it says nothing about a GPU's."""

    findings: tuple[Finding, ...] = ()
    buffers: Mapping[str, Traffic] = field(default_factory=dict)
    threadgroup: Mapping[str, ThreadgroupArray] = field(default_factory=dict)
    seconds: float = 0.0
    threads: int = 0
    threadgroups: int = 0
    barriers: int = 0
    simd_calls: int = 0
    complete: bool = True

    @property
    def ok(self) -> bool:
        """Whether it came to its end without a finding of grade "error"."""
        return self.complete and not any(finding.grade == "error" for finding in self.findings)

    def __str__(self) -> str:
        head = f"{self.threads} threads in {self.threadgroups} threadgroups, {self.seconds * 1e3:.1f} ms emulated"
        lines = [str(finding) for finding in self.findings]
        lines += [
            f"{name}: {traffic.read} bytes read ({traffic.read_unique} unique), {traffic.written} written"
            for name, traffic in self.buffers.items()
        ]
        return "\n".join([head, *lines])
