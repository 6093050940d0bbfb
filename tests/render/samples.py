"""Results and answers to show: hand-made, so that what a test expects is known to the figure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlxnb.decision import Rejected
from mlxnb.render import LiveCell
from mlxnb.request import Sampling
from mlxnb.result import Provenance, Result, Timings

ANSWER = """\
Use `pathlib.Path.glob` to find files, and **sum their sizes** in one pass. It returns a generator, so nothing is
read before it is needed.

```python
from pathlib import Path

def total_size(folder: str, pattern: str = "*.ipynb") -> int:
    # Bytes in all matching files, symlinks left out.
    return sum(path.stat().st_size for path in Path(folder).glob(pattern) if path.is_file())

print(f"{total_size('.') / 1e6:.1f} MB")
```

Three ways to walk a tree:

| call | recursive | returns |
| :--- | :---: | ---: |
| `Path.glob` | with `**` | 12 |
| `os.walk` | yes | 1024 |

1. Prefer `Path.glob` for patterns.
2. Prefer [os.scandir](https://docs.python.org/3/library/os.html#os.scandir) for speed.

> The cost is $O(n)$ in the number of files.
"""

THINKING = "The person wants a **total size**. `Path.glob` gives paths; `stat().st_size` gives bytes.\n\nKeep it short."


def make_result(text: str = ANSWER, *, tokens: int = 48, load_time: float = 0.0, **changes: Any) -> Result:
    """A finished Result: 212 tok/s, first token after 38 ms (and the load), 120 of 131 prompt tokens reused.

    `changes` go to Provenance, Timings or Result, whichever has the field.
    """
    accepted = 1000.0
    first = accepted + load_time + 0.038
    times = tuple(first + i / 212 for i in range(tokens))
    parts: dict[type, dict[str, Any]] = {cls: {} for cls in (Provenance, Timings, Result)}
    for name, value in changes.items():
        parts[next(cls for cls in parts if name in cls.__dataclass_fields__)][name] = value
    timings = Timings(accepted, accepted + load_time + 0.001, times, 131, 120, load_time)
    provenance = Provenance(
        "pocket", "bundled", "1", "torch", "2.13.0", "cpu", "bfloat16", None,
        Sampling(seed=7), 256, (), 131, 120, 1024, "sdpa",
    )  # fmt: skip
    result = Result(text, list(range(tokens)), "stop", timings, provenance, peak_memory=123_000_000)
    return replace(
        result,
        timings=replace(timings, **parts[Timings]),
        provenance=replace(provenance, **parts[Provenance]),
        **parts[Result],
    )


def thoughtful(text: str = ANSWER, **changes: Any) -> Result:
    """A Result that thought for 94 ms in 20 tokens first."""
    first_visible = 1000.038 + changes.get("load_time", 0.0) + 20 / 212
    return make_result(text, **{"thinking": THINKING, "thinking_tokens": 20, "first_visible": first_visible, **changes})


FALLBACK = Rejected("mlx", "needs Apple silicon or Linux", 'pip install "mlx[cpu]"')


def stream(result: Result, *, format: str = "markdown", seconds: float = 2.0, pause: Sequence[str] = ()) -> LiveCell:
    """Show `result` as a magic does: loading, prefill, thoughts, text in 100 steps, then the finished output.

    `pause` names the moments ("finish") before which to wait half a second, for a camera.
    """
    cell = LiveCell(format, result.provenance.model)
    cell.start()
    for state in ("queued", "loading"):
        cell.update(state=state)
        time.sleep(seconds / 20)
    for done in range(0, 132, 33):
        cell.update(prefill_done=done, prefill_total=131, state="prefill")
        time.sleep(seconds / 20)
    for i in range(1, 11):
        if result.thinking:
            cell.update(thinking=result.thinking[: len(result.thinking) * i // 10], tokens=2 * i)
            time.sleep(seconds / 50)
    for i in range(1, 101):
        cell.update(result.text[: len(result.text) * i // 100], result.thinking, tokens=20 + i)
        time.sleep(seconds / 150)
    time.sleep(0.2)
    cell.update(result.text, result.thinking, tokens=len(result.tokens))
    time.sleep(0.5 if "finish" in pause else 0)
    cell.finish(result)
    return cell
