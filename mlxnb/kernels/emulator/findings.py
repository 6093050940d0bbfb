"""Puts what the runner found into words: each kind of finding, its grade and its message."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .diagnostics import quote
from .lines import Place
from .report import Finding, Grade
from .signature import HEADER, SOURCE, KernelText
from .sites import own_line

Raw = Mapping[str, Any]


def worded(raw: Raw, text: KernelText, place: Place | None, earlier: Place | None) -> Finding:
    """The finding that a record of the runner's stands for, at its place, and at that of the access it clashes with."""
    grade, words = KINDS[raw["kind"]]
    subject = _array(raw, text, place) if raw["space"] == "array" else raw["subject"]
    message = words({**raw, "subject": subject, "earlier": _named(earlier)})
    part, line = (_part(place.file), place.line) if place else ("source", None)
    buffer = subject if raw["space"] else ""
    return Finding(raw["kind"], message, line, part, raw["count"], grade, buffer)


def _part(file: str) -> str:
    return {SOURCE: "source", HEADER: "header"}.get(file, file)


def _named(place: Place | None) -> str:
    if place is None:
        return ""
    return f"line {place.line}" + ("" if place.file == SOURCE else f" of {_part(place.file)}")


def _array(raw: Raw, text: KernelText, place: Place | None) -> str:
    """The array that was indexed, by the line's text, since the compiler tells only its type.

    It is none of the kernel's arguments: they are pointers, whose bounds the compiler does not know.
    """
    part = {SOURCE: text.source, HEADER: text.header}.get(place.file if place else "", "")
    names = dict.fromkeys(re.findall(r"(\w+)\s*\[", quote(part, place.line if place else 0)))
    for parameter in text.parameters:
        names.pop(parameter.name, None)
    return " or ".join(names) or raw["subject"]


def _thread(raw: Raw) -> str:
    if not raw["has_thread"]:
        return "some thread"
    return f"thread {_triple(raw['thread'])} of threadgroup {_triple(raw['threadgroup'])}"


def _triple(numbers: list[int]) -> str:
    return f"({', '.join(map(str, numbers))})"


def _memory(raw: Raw) -> str:
    return {"device": "buffer", "threadgroup": "threadgroup array"}.get(raw["space"], "array") + f" {raw['subject']}"


def _action(raw: Raw) -> str:
    return "writes" if raw["write"] else "reads"


def _out_of_bounds(raw: Raw) -> str:
    if raw["space"] == "array":
        return f"{_thread(raw)} uses element {raw['index']} of {raw['subject']}, which is outside it."
    has = f"it has {raw['extent']}" if raw["extent"] else "it is empty"
    return f"{_thread(raw)} {_action(raw)} element {raw['index']} of {_memory(raw)}; {has}."


def _uninitialised(raw: Raw) -> str:
    return f"{_thread(raw)} reads element {raw['index']} of {_memory(raw)}, which nothing has written."


def _race(raw: Raw) -> str:
    earlier = "other threads" if raw["earlier_thread"] < 0 else f"thread {raw['earlier_thread']}"
    if raw["elsewhere"]:
        earlier = "another threadgroup"
    did = "wrote" if raw["earlier_write"] else "read"
    at = f" at {raw['earlier']}" if raw["earlier"] else ""
    barrier = {"race-in-simdgroup": "simdgroup_barrier"}.get(raw["kind"], "threadgroup_barrier")
    flag = "mem_device" if raw["space"] == "device" else "mem_threadgroup"
    between = "in the same launch" if raw["elsewhere"] else f"with no {barrier}(mem_flags::{flag}) between"
    return (
        f"{_thread(raw)} {_action(raw)} element {raw['index']} of {_memory(raw)}, which {earlier} {did}{at}, {between}."
    )


def _same_value(raw: Raw) -> str:
    return f"{_race(raw)[:-1]}; both wrote the same value."


def _despite_fence(raw: Raw) -> str:
    return f"{_race(raw)[:-1]}; the kernel has a fence, and whether it orders the two is not known here."


def _unordered(raw: Raw) -> str:
    return f"{_race(raw)[:-1]}; both are atomic, and the result depends on which is first."


def _input_written(raw: Raw) -> str:
    return f"{_thread(raw)} writes element {raw['index']} of {_memory(raw)}, which is an input."


def _divergent_barrier(raw: Raw) -> str:
    if own_line(raw["where"][1]) == own_line(raw["earlier_where"][1]):
        return (
            "Threads of one threadgroup wait here by different calls: of this barrier, or of a function that it is in."
        )
    return f"Threads of one threadgroup wait at different barriers, some here and some at {raw['earlier']}."


def _after_exit(raw: Raw) -> str:
    return (
        f"{raw['index']} of {raw['extent']} threads had left the kernel before this barrier, which all must reach; "
        f"threadgroup {_triple(raw['threadgroup'])}."
    )


def _partial_simd(raw: Raw) -> str:
    return (
        f"Only lanes {_lanes(raw['lanes'])} of a simdgroup reach {raw['subject']}; {_lanes(raw['other_lanes'])} "
        f"are elsewhere or have left. Threadgroup {_triple(raw['threadgroup'])}."
    )


def _inactive_lane(raw: Raw) -> str:
    return f"Lane {raw['lanes']} takes a value by {raw['subject']} from lane {raw['index']}, which is not there."


def _lanes(mask: int) -> str:
    """A mask of lanes as ranges: 0–3, 8."""
    lanes = [lane for lane in range(32) if mask >> lane & 1]
    starts = [lane for lane in lanes if lane - 1 not in lanes]
    ends = [lane for lane in lanes if lane + 1 not in lanes]
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True))


def _misaligned(raw: Raw) -> str:
    return (
        f"{_thread(raw)} {_action(raw)} {raw['bytes']} bytes at element {raw['index']} of {_memory(raw)}, "
        f"an address that is no multiple of {raw['bytes']}."
    )


def _division(raw: Raw) -> str:
    return f"{_thread(raw)} divides an integer by zero."


def _unwritten(raw: Raw) -> str:
    return (
        f"{raw['count']} of {raw['extent']} elements of output {raw['subject']} were never written, "
        f"the first of them element {raw['index']}; give init_value, or write them."
    )


def _threadgroup_memory(raw: Raw) -> str:
    return f"Threadgroup memory reaches {raw['index']} bytes with {raw['subject']}; a threadgroup has 32768."


def _too_many_threads(raw: Raw) -> str:
    return f"The threadgroup has {raw['index']} threads; at most 1024 are possible. Nothing was run."


def _time_limit(raw: Raw) -> str:
    return (
        f"Still running after {raw['index'] / 1e6:g} s, in {_thread(raw)}. A loop that waits for another thread never "
        "ends here: threads take turns only at barriers and simd functions."
    )


def _stack_overflow(raw: Raw) -> str:
    return f"{_thread(raw)} uses more private memory than the {raw['index'] // 1024} KiB it has here."


def _crash(raw: Raw) -> str:
    if raw["bytes"] == 11:
        return f"{_thread(raw)} touches address {raw['index']:#x}, which belongs to no buffer."
    return f"The kernel was stopped by signal {raw['bytes']}, in {_thread(raw)}."


KINDS: Mapping[str, tuple[Grade, Callable[[Raw], str]]] = {
    "out-of-bounds": ("error", _out_of_bounds),
    "uninitialised": ("error", _uninitialised),
    "race": ("error", _race),
    "race-in-simdgroup": ("error", _race),
    "race-between-threadgroups": ("error", _race),
    "same-value-race": ("warning", _same_value),
    "race-despite-fence": ("warning", _despite_fence),
    "unordered-atomics": ("warning", _unordered),  # Metal defines it, but for the order
    "input-written": ("error", _input_written),
    "divergent-barrier": ("error", _divergent_barrier),
    "barrier-after-exit": ("error", _after_exit),
    "partial-simd": ("warning", _partial_simd),  # Metal defines it: the lanes that are there take part
    "inactive-lane": ("error", _inactive_lane),
    "misaligned": ("error", _misaligned),
    "division-by-zero": ("error", _division),
    "unwritten-output": ("warning", _unwritten),
    "threadgroup-memory": ("error", _threadgroup_memory),
    "too-many-threads": ("error", _too_many_threads),
    "time-limit": ("error", _time_limit),
    "stack-overflow": ("error", _stack_overflow),
    "crash": ("error", _crash),
}
