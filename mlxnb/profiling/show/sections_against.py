"""What a report says beside an earlier one: what became faster or slower, and what else has changed meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...render.cells import Cell, Dot
from ...render.numbers import significant
from ...render.table import Table
from ..judge.changes import Change
from ..judge.compare import Against
from ..report import Value
from ..report.words import case_names, times, value_words
from .sections_compared import INTERVAL, ratios_table
from .sections_parts import Head, Item, Line, Section

OF_THE_MACHINE = ("chip", "cores", "memory", "device")
SEEN = 1.2  # times; what differs by less and does not show is not worth a word
REVISION = re.compile(r"[0-9a-f]{40,64}")  # of which the beginning is enough to tell two apart


def against_head(found: Against) -> Head:
    """Which two reports they are."""
    line = (f"this of {_when(found.report.began)}", f"earlier of {_when(found.earlier.began)}")
    partial = [name for name, each in (("this", found.report), ("the earlier", found.earlier)) if each.partial]
    said = f"Partial: {' and '.join(partial)} report" + ("s are" if len(partial) > 1 else " is") + " not whole"
    return Head("Against an earlier profile", line, said if partial else "")


def against_sections(found: Against) -> tuple[Section, ...]:
    """The verdict, the ratios, what changed, and which cases have no partner."""
    sections = (
        Section("Result", items=(_verdict(found),)),
        Section("By case", (_ratios(found),) if found.matches else ()),
        Section("What changed", (_changes(found.changed),) if found.changed else ()),
        Section("Cases of one report only", (_alone(found),) if found.only_ours or found.only_theirs else ()),
    )
    return tuple(section for section in sections if section.tables or section.items)


def _when(began: str) -> str:
    return began.replace("T", " ")[:16] + " UTC"


def _verdict(found: Against) -> Item:
    elsewhere = tuple(_elsewhere(found.changed))
    spread = "The machine's own change from one day to the next is in no interval: repeat before you rely on it."
    if not found.matches:
        return Item(Dot("warning", "nothing to compare"), "", (Line("No case was measured in both reports."),))
    if found.equal:
        line = Line("No figure lies outside the spread of both reports.")
        return Item(Dot("off", "equal"), "", (line, *elsewhere, *_unseen(found)))
    differing = sum(any(ratio.differs for ratio in match.ratios) for match in found.matches)
    said = f"{differing} of {len(found.matches)} cases differ by more than the spread of both reports."
    why = "What changed, below, may explain it." if found.changed else "Nothing is known to have changed. " + spread
    return Item(Dot("warning", "different"), "", (Line(said), *elsewhere, Line(why)))


def _elsewhere(changed: tuple[Change, ...]) -> Iterator[Line]:
    """Whether the two are of unlike machines: then a figure that differs tells of those first."""
    other = [each for each in changed if each.what in OF_THE_MACHINE]
    if other:
        said = ", ".join(f"{each.what} {_value(each.before)}, now {_value(each.now)}" for each in other)
        yield Line(f"The earlier report is of another machine: {said}.")


def _unseen(found: Against) -> tuple[Line, ...]:
    """What difference could have been there all the same: the most that any interval leaves room for."""
    decoding = [each for match in found.matches for each in match.ratios if each.figure == "decode_rate"]
    reach = max((max(each.high, 1 / each.low) for each in decoding if each.low > 0), default=1.0)
    if reach < SEEN:
        return ()
    return (Line(f"A decode rate up to {times(reach)}× as high or as low would not have shown: more --runs tell."),)


def _ratios(found: Against) -> Table:
    ours, theirs = case_names(found.report), case_names(found.earlier)
    pairs = [(ours[match.ours], theirs[match.theirs], match.ratios) for match in found.matches]
    return ratios_table(pairs, f"This over the earlier: ratio of the medians, unpaired, and {INTERVAL}")


def _changes(changed: tuple[Change, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = [(each.what, _value(each.before), _value(each.now)) for each in changed]
    return Table(("what", "earlier", "now"), rows, bold="what")


def _value(value: Value) -> str:
    if value is None:
        return "not there"
    if isinstance(value, str) and REVISION.fullmatch(value):
        return value[:12]
    return significant(value) if isinstance(value, float) else value_words(value)


def _alone(found: Against) -> Table:
    rows = [(label, "this") for label in found.only_ours] + [(label, "the earlier") for label in found.only_theirs]
    return Table(("case", "report"), rows)
