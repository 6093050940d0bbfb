"""The tables of `%mlxnb cache`: what was asked and found, what is held, and where."""

from __future__ import annotations

from ..cache import Pinned, Tally
from ..decision import Decision, Rejected
from ..render import Table
from ..render.cells import Dot
from ..render.numbers import count
from ..runtime.caches import CacheStats

KINDS = {
    "results": "finished answers",
    "rows": "rows of tables",
    "memory": "KV states in memory",
    "disk": "KV states on disk",
}
SHORT = {"results": "answers", "rows": "rows", "memory": "in memory", "disk": "on disk"}
NAMELESS = "not known"
NOTE = (
    "Since the engine began. A prefix is a hit from 16 reused tokens or half of the prompt on; what a miss reuses is "
    "saved all the same. Time saved is an estimate from measured rates."
)


def cache_tables(stats: CacheStats) -> list[Table]:
    """Lookups by cache and model, then what is held."""
    asked = [
        (cache, model, *_tally(tally))
        for cache, tallies in (("answers", stats.results), ("prefixes", stats.prefixes))
        for model, tally in tallies.items()
    ]
    columns = (
        "cache",
        "model",
        "hits",
        "misses",
        ("hit rate", "%"),
        ("asked", "tokens"),
        ("saved", "tokens"),
        ("time saved", "s"),
        "evicted",
    )
    lookups = Table(columns, asked, caption=NOTE)
    rest = [*([_by_model(stats)] if len(stats.models) > 1 else []), *([_pins(stats)] if stats.pins else [])]
    return [*([lookups] if asked else []), _held(stats), *rest]


def _tally(tally: Tally) -> tuple[int | float | None, ...]:
    rate = None if tally.hit_rate is None else 100 * tally.hit_rate
    # Saved tokens without a second: no prefill was long enough to tell a rate, as after a restart.
    seconds = None if tally.tokens_saved and not tally.seconds_saved else tally.seconds_saved
    return (tally.hits, tally.misses, rate, tally.tokens, tally.tokens_saved, seconds, tally.evictions)


def _held(stats: CacheStats) -> Table:
    rows = [
        (
            KINDS[place],
            None if held is None else held.entries,
            None if held is None else held.bytes / 1e6,
            stats.limits[place] / 1e6,
            stats.evictions.get(place),
        )
        for place, held in stats.held.items()
        if place in _places(stats)
    ]
    columns = ("held", "entries", ("size", "MB"), ("limit", "MB"), "evicted")
    whose = f", all of {next(iter(stats.models)) or 'one model'}" if len(stats.models) == 1 else ""
    return Table(columns, rows, caption=f"What there is now{whose}")


def _places(stats: CacheStats) -> list[str]:
    """Where something may be held; the rows of tables only where some are."""
    return [place for place in KINDS if place != "rows" or ((rows := stats.held.get(place)) and rows.entries)]


def _by_model(stats: CacheStats) -> Table:
    places = _places(stats)
    rows = [
        (model or NAMELESS, *(figure for place in places for figure in (held[place].entries, held[place].bytes / 1e6)))
        for model, held in stats.models.items()
    ]
    columns = ("model", *(column for place in places for column in (SHORT[place], ("size", "MB"))))
    return Table(columns, rows, bold="model", caption="The same by model")


def _pins(stats: CacheStats) -> Table:
    rows = [
        (
            pin.name,
            pin.model or NAMELESS,
            pin.tokens,
            pin.memory / 1e6,
            _state(pin),
        )
        for pin in stats.pins
    ]
    return Table(("pin", "model", "tokens", ("memory", "MB"), "state"), rows, bold="pin")


def _state(pin: Pinned) -> Dot:
    if pin.held:
        return Dot("success", "kept" if pin.on_disk else "kept, in memory only")
    return Dot("off", "on disk, read when its model is used" if pin.on_disk else "waits for its state")


def where_table(stats: CacheStats) -> Table:
    """Where it all lies."""
    rows = [
        ("finished answers", str(stats.folder / "results.sqlite")),
        ("rows of tables", str(stats.folder / "rows")),
        ("KV states", str(stats.folder / "prefixes")),
        ("compiled kernels", str(stats.folder / "emulator")),
        ("kernel measurements", str(stats.folder / "kernels")),
        ("this machine's speeds", str(stats.folder / "hardware")),
    ]
    return Table(("what", "where"), rows, caption="MLXNB_CACHE_DIR names another folder")


def cleared_table(entries: int) -> Table:
    """How much went."""
    entry = "entry" if entries == 1 else "entries"
    return Table(["cache"], [[f"{count(entries)} {entry} dropped; pins are still there"]])


def pin_table(decision: Decision) -> Table:
    """What came of a pin."""
    row = (decision.subject, Dot("success" if decision else "off", decision.reason))
    if isinstance(decision, Rejected) and decision.remedy:
        return Table(("pin", "state", "next"), [(*row, decision.remedy)])
    return Table(("pin", "state"), [row])
