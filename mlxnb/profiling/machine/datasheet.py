"""Memory bandwidths as the makers state them, to show beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping

# GB/s, as of November 2026. Source: apple.com's newsroom and technical specifications of each chip. By physical cores
# where a chip is sold with two widths of memory; an M5 Max is, with the same cores, so that it is not here.
APPLE: Mapping[str, float | Mapping[int, float]] = {
    "M1": 68.25, "M1 Pro": 200, "M1 Max": 400, "M1 Ultra": 800,
    "M2": 100, "M2 Pro": 200, "M2 Max": 400, "M2 Ultra": 800,
    "M3": 100, "M3 Pro": 150, "M3 Max": {14: 300, 16: 400}, "M3 Ultra": 819,
    "M4": 120, "M4 Pro": 273, "M4 Max": {14: 410, 16: 546},
    "M5": 153, "M5 Pro": 307,
}  # fmt: skip

# GB/s, as of November 2026, by the name that nvidia-smi has for it. Source: nvidia.com's datasheet of each. Names that
# stand for several widths of memory are not here.
NVIDIA: Mapping[str, float] = {
    "B200": 8000, "H200": 4800, "H100 80GB HBM3": 3350, "H100 PCIe": 2000, "H100 NVL": 3900,
    "A100-SXM4-40GB": 1555, "A100-PCIE-40GB": 1555, "A100-SXM4-80GB": 2039, "A100 80GB PCIe": 1935,
    "A10": 600, "A10G": 600, "A40": 696, "L4": 300, "L40": 864, "L40S": 864, "Tesla T4": 320,
    "Tesla V100-SXM2-16GB": 900, "Tesla V100-SXM2-32GB": 900, "RTX A6000": 768, "RTX 6000 Ada Generation": 960,
    "RTX 3090": 936, "RTX 3090 Ti": 1008, "RTX 4080": 717, "RTX 4080 SUPER": 736, "RTX 4090": 1008,
    "RTX 5070 Ti": 896, "RTX 5080": 960, "RTX 5090": 1792,
}  # fmt: skip


def datasheet(name: str, cores: int | None = None) -> float | None:
    """Bytes a second that the maker states for a chip or a GPU, by its name; None where it is not in the tables.

    `cores`: physical ones of the processor.
    """
    found = APPLE.get(name.removeprefix("Apple ")) if name.startswith("Apple ") else _nvidia(name)
    stated = found.get(cores or 0) if isinstance(found, Mapping) else found
    return None if stated is None else stated * 1e9


def _nvidia(name: str) -> float | None:
    return NVIDIA.get(name.removeprefix("NVIDIA ").removeprefix("GeForce "))
