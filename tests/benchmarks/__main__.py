"""Runs benchmarks by name, all without one: `python -m tests.benchmarks [NAME …] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlxnb import hardware

from . import (
    batch,
    caches,
    decode,
    gpu,
    llama_cpp,
    load_ext,
    monitor,
    onnx_genai,
    panels,
    precisions,
    profile,
    quantised,
    quantized_cache,
    speculative,
    structured,
    torchao,
)
from .pairs import Comparison

BENCHMARKS: dict[str, Callable[[], Any]] = {
    "mlx": decode.mlx,
    "torch": decode.torch,
    "decode": decode.decode,
    "load_ext": load_ext.load_ext,
    "speculative": speculative.speculative,
    **quantized_cache.BENCHMARKS,
    **caches.BENCHMARKS,
    **batch.BENCHMARKS,
    **quantised.BENCHMARKS,
    **llama_cpp.BENCHMARKS,
    **onnx_genai.BENCHMARKS,
    **precisions.BENCHMARKS,
    **profile.BENCHMARKS,
    **monitor.BENCHMARKS,
    **structured.BENCHMARKS,
    **panels.BENCHMARKS,
}
COLUMNS = ["benchmark", "ours", "theirs", "ratio", "interval", "pairs", "goal"]


def machine() -> dict[str, object]:
    """What a figure depends on."""
    libraries = ("mlx", "mlx-lm", "torch", "transformers", "ipython")
    return {
        "chip": hardware.chip(),
        "memory": hardware.memory_total(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def table(rows: list[dict[str, Any]]) -> str:
    cells = [COLUMNS, *([_cell(row.get(column)) for column in COLUMNS] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " … ".join(map(str, value))
    return "" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where the rows go")
    args = parser.parse_args()
    known = {
        **BENCHMARKS,
        **quantized_cache.BY_NAME_ONLY,
        **batch.BY_NAME_ONLY,
        **gpu.BY_NAME_ONLY,
        **torchao.BY_NAME_ONLY,
    }
    unknown = set(args.names) - set(known)
    if unknown:
        parser.error(f"no benchmark {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    rows = []
    for name in args.names or BENCHMARKS:
        made = known[name]()
        new = [m.row() if isinstance(m, Comparison) else m for m in (made if isinstance(made, list) else [made])]
        print(table(new), flush=True)
        rows += new
    args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


main()
