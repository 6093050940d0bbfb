"""The tables of attention kernels: what is in use, what was proven, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..comparison import Ratio
from ..decision import Decision, Rejected
from ..kernels.dispatch import Dispatcher
from .cells import Cell, Command, Dot, Kind
from .numbers import plural
from .table import Table

if TYPE_CHECKING:
    from ..kernels.bench import Bench, Row
    from ..kernels.config import AttentionConfig
    from ..kernels.verify import Verdict, Verification
    from ..runtime.kernel_work import Found

SHAPE = ("pattern", "heads", "head_dim", "queries", "keys", "cache", "mask")
OFF = Command("%patch_kernels on", "Attention is mlx-lm's own. Change it:")


def status_table(dispatcher: Dispatcher | None) -> Table:
    """The path in use for each layer class and shape."""
    if dispatcher is None:
        return Table(["kernels"], [[OFF]])
    lines = dispatcher.lines()
    total, ours = (sum(line.calls for line in some) for some in (lines, [n for n in lines if n.path != "stock"]))
    share = f"{plural(total, 'call')}, {ours / total:.0%} on a path of ours" if total else "nothing ran yet"
    same, titles, shapes = _shapes([line.config for line in lines])
    rows = [
        (line.layer, *shape, _path(line.path), line.calls, line.decision.reason)
        for line, shape in zip(lines, shapes, strict=True)
    ]
    caption = f"Attention is patched · {share}"
    if not rows:
        return Table(
            ["kernels"], [["Generate something on the mlx backend, and its shapes appear here."]], caption=caption
        )
    caption = " · ".join(filter(None, [caption, same]))
    return Table(("layer", *titles, "path", "calls", "reason"), rows, caption=caption)


def decision_table(decision: Decision) -> Table:
    """One decision in a row."""
    state = Dot("success" if decision else "off", decision.reason)
    return Table(["kernels"], [[state]])


def tune_table(found: Sequence[Found]) -> Table:
    """What measuring chose for each shape."""
    return _found_table(found, "Measured against float64 and against stock; remembered")


def explain_tables(found: Sequence[Found]) -> list[Table]:
    """What is done for each shape; then what every path says of those shapes, the same words once."""
    shapes = _found_table(found, "What is done for each shape")
    said: dict[tuple[str, str, bool], list[str]] = {}
    for each in found:
        for name, decision in each.paths:
            at = said.setdefault((name, decision.reason, bool(decision)), [])
            at.append(f"{each.config.query_len} × {each.config.kv_len}")
    told = [
        (name, Dot("success" if yes else "off", "can" if yes else "cannot"), reason, _some(at, len(found)))
        for (name, reason, yes), at in said.items()
    ]
    return [shapes, Table(("path", "state", "reason", "queries × keys"), told, caption="What each path says of them")]


def _found_table(found: Sequence[Found], caption: str) -> Table:
    same, titles, shapes = _shapes([each.config for each in found])
    rows = [(*shape, _path(each.path), each.decision.reason) for each, shape in zip(found, shapes, strict=True)]
    return Table((*titles, "path", "reason"), rows, caption=" · ".join(filter(None, [caption, same])))


def _shapes(configs: Sequence[AttentionConfig]) -> tuple[str, list[str], list[tuple[Cell, ...]]]:
    """What is the same of all shapes, in words; then the titles and the cells of what is not."""
    rows = [_shape(config) for config in configs]
    alike = [len(rows) > 1 and len({row[i] for row in rows}) == 1 for i in range(len(SHAPE))]
    same = [f"{title} {rows[0][i]}" for i, title in enumerate(SHAPE) if alike[i]]
    kept = [i for i in range(len(SHAPE)) if not alike[i]]
    return ", ".join(same), [SHAPE[i] for i in kept], [tuple(row[i] for i in kept) for row in rows]


def _some(at: Sequence[str], shapes: int) -> str:
    return "all" if len(at) == shapes else ", ".join(at)


def verify_table(found: Verification) -> Table:
    """What was proven of each path, and where."""
    columns = ("path", "where", "proofs", "passed", "closest to its limit", "error", "allowed", "stock")
    rows = [_verify_row(verdict) for verdict in found.verdicts]
    rows += [
        ("", "", None, Dot("error", "failed"), str(proof), None, None, None)
        for v in found.verdicts
        for proof in v.failed
    ]
    caption = f"Relative error against float64 · {found.machine} · {found.seconds:.0f} s"
    return Table(columns, rows, caption=caption)


def traffic_table(found: Verification) -> Table:
    """K and V bytes that each decode kernel read, in multiples of those that exist, by GQA ratio."""
    ratios = sorted({row.ratio for row in found.traffic})
    kernels = list(dict.fromkeys(row.kernel for row in found.traffic))
    read = {(row.kernel, row.ratio): row for row in found.traffic}
    rows: list[tuple[Cell, ...]] = [(kernel, *(read[kernel, ratio].total for ratio in ratios)) for kernel in kernels]
    took = (
        ""
        if found.decode_seconds is None
        else f" · one emulated decode over 2 048 keys took {found.decode_seconds:.2f} s"
    )
    caption = (
        f"K and V bytes read by query heads a KV head, in multiples of those that exist; counted by the emulator{took}"
    )
    return Table(("kernel", *(f"{ratio}:1" for ratio in ratios)), rows, caption=caption)


def _verify_row(verdict: Verdict) -> tuple[Cell, ...]:
    worst = verdict.worst
    if worst is None:
        decision = verdict.decision
        why = (
            " · ".join(filter(None, [decision.reason, decision.remedy]))
            if isinstance(decision, Rejected)
            else "no case"
        )
        return (verdict.path, verdict.where, 0, Dot("off", "not proven here"), why, None, None, None)
    passed = len(verdict.proofs) - len(verdict.failed)
    state = Dot("error" if verdict.failed else "success", f"{passed} of {len(verdict.proofs)}")
    stock = f"{worst.stock_error:.2g}" if worst.stock_error is not None else worst.stock_note
    figures = (f"{worst.error:.2g}", f"{worst.allowed:.2g}", stock)
    return (verdict.path, verdict.where, len(verdict.proofs), state, str(worst.case), *figures)


def bench_tables(bench: Bench) -> list[Table]:
    """Stock against patched by context length: rates and memory, then the tokens and the paths."""
    cache = f"{bench.kv_bits}-bit KV cache" if bench.kv_bits else "KV cache in the model's dtype"
    stopped = f" · stopped: {bench.stopped}" if bench.stopped else ""
    native = "" if "metal" in bench.machine else " · no Metal here, so the Metal kernels took no part"
    caption = f"{bench.model}, {cache}, {bench.machine}{native}{stopped}"
    columns = (("context", "tokens"), "measured", "stock", "patched", "patched to stock")
    rates = [row for each in bench.rows for row in _bench_rows(each)]
    ran = [(row.length, _same(row.difference), _paths(row.paths)) for row in bench.rows]
    return [
        Table(columns, rates, caption=caption),
        Table((("context", "tokens"), "greedy tokens of both", "calls of the patched runs"), ran),
    ]


def _bench_rows(row: Row) -> list[tuple[Cell, ...]]:
    less = Dot("success" if row.peak < row.stock_peak else "off", f"{row.peak / row.stock_peak:.2f}×")
    return [
        (row.length, "prefill, tok/s", row.stock_prefill, row.prefill, _ratio(row.prefill_ratio)),
        (row.length, "decode, tok/s", row.stock_decode, row.decode, _ratio(row.decode_ratio)),
        (row.length, "peak memory, MB", row.stock_peak / 1e6, row.peak / 1e6, less),
    ]


def _same(difference: int | None) -> str:
    return "identical" if difference is None else f"differ from token {difference + 1}"


def _paths(paths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {calls}" for name, calls in sorted(paths.items()))


def _ratio(ratio: Ratio) -> Dot:
    kind: Kind = "off" if not ratio.differs else "success" if ratio.median > 1 else "warning"
    return Dot(kind, f"{ratio}, n = {ratio.pairs}")


def _shape(config: AttentionConfig) -> tuple[Cell, ...]:
    cache = config.dtype if config.kv_bits is None else f"{config.kv_bits} bit, group {config.group_size}"
    heads = f"{config.num_heads} on {config.num_kv_heads}"
    return (config.attention_pattern, heads, config.head_dim, config.query_len, config.kv_len, cache, config.mask)


def _path(name: str) -> Dot:
    return Dot("off", name) if name == "stock" else Dot("success", name)
