"""`python -m mlxnb.hardware.measure`: how fast each library here copies and multiplies, as lines of JSON.

A process of its own: no library is imported into a notebook that does not need it, none of its threads stay behind, and
nothing that the notebook runs is measured with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..errors import in_words
from .memory import memory_free
from .speed import MARK

# Far more than any processor's cache, where memory allows.
COPIED = 256 * 2**20  # bytes
SMALLEST, SMALL, LARGEST = 256, 512, 8192  # rows of a square matrix; beyond SMALL it grows as long as that is quick
LONG_ENOUGH = 0.02  # seconds of one product, from which the matrix does not grow any more
SPENT = 0.08  # seconds on each figure
FLOATS = ("float32", "bfloat16", "float16")

Work = Callable[[], object]


def main() -> None:
    """Print what was measured, a line each as soon as it is known; a library that fails costs its own figures only."""
    for name, (module, measured) in LIBRARIES.items():
        if find_spec(name) is None:
            continue
        try:
            import_module(module)
        except Exception as err:  # noqa: BLE001 - whatever a broken installation raises is what the doctor tells
            say({"library": name, "broken": in_words(err)})
            continue
        try:
            for record in measured():
                say(record)
        except Exception as err:  # noqa: BLE001 - a device that is full, for one
            say({"library": name, "failed": in_words(err)})


def say(record: dict[str, Any]) -> None:
    """One line of JSON behind a mark, since other code may print too."""
    print(MARK + json.dumps(record), flush=True)


def best(work: Work, spent: float = SPENT) -> float:
    """Seconds of the quickest of as many runs as fit into `spent` seconds, at least three."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < spent:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def product_rate(product: Callable[[int], Work]) -> float:
    """Operations a second of a square matrix product: the best over sizes that grow until one product takes a while.

    `product(n)` gives the work of multiplying two matrices of n × n.
    """
    n, fastest = SMALLEST, 0.0
    while True:
        work = product(n)
        taken = best(work)
        fastest = max(fastest, 2 * n**3 / taken)
        if n == LARGEST or (n >= SMALL and taken > LONG_ENOUGH):
            return fastest
        n *= 2


def _copied() -> int:
    return min(COPIED, memory_free() // 8)


def _torch() -> Iterator[dict[str, Any]]:
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    elif torch.backends.mps.is_available():
        devices.append("mps")
    for device in devices:
        wait: Work = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device, lambda: None)
        there = torch.ones(_copied(), dtype=torch.uint8, device=device)
        here = torch.empty_like(there)

        def copy(here: Any = here, there: Any = there, wait: Work = wait) -> None:
            here.copy_(there)
            wait()

        moved = 2 * there.numel() / best(copy)
        del here, there, copy
        products = {}
        for dtype in (*FLOATS, "int8"):
            try:
                products[dtype] = product_rate(partial(_torch_product, dtype, device, wait))
            except (RuntimeError, NotImplementedError, TypeError):
                continue  # this build multiplies no such matrices there
        yield {"library": f"torch {torch.__version__}", "device": device, "copy": moved, "products": products}


def _torch_product(dtype: str, device: str, wait: Work, n: int) -> Work:
    import torch

    if dtype == "int8":
        a = torch.randint(-127, 127, (n, n), dtype=torch.int8, device=device)
        b = a.t().contiguous().t()
    else:
        a = b = torch.randn(n, n, device=device).to(getattr(torch, dtype))
    multiply = torch._int_mm if dtype == "int8" else torch.mm

    def work() -> None:
        multiply(a, b)
        wait()

    work()  # raises here where there is no such product
    return work


def _mlx() -> Iterator[dict[str, Any]]:
    from importlib.metadata import version

    import mlx.core as mx

    device = "cpu" if mx.default_device() == mx.cpu else "metal" if mx.metal.is_available() else "cuda"
    there = mx.ones((_copied(),), dtype=mx.uint8)
    mx.eval(there)
    moved = 2 * there.nbytes / best(lambda: mx.eval(there + 1))
    products = {dtype: product_rate(partial(_mlx_product, dtype)) for dtype in FLOATS}
    yield {"library": f"mlx {version('mlx')}", "device": device, "copy": moved, "products": products}


def _mlx_product(dtype: str, n: int) -> Work:
    import mlx.core as mx

    a = mx.random.normal((n, n)).astype(getattr(mx, dtype))
    mx.eval(a)
    return lambda: mx.eval(a @ a)


# What is imported of each library, and what measures it: one record a device.
LIBRARIES = {"torch": ("torch", _torch), "mlx": ("mlx.core", _mlx)}

if __name__ == "__main__":
    main()
