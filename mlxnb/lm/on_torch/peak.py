"""The most memory that was in use so far, in GB of 10^9 bytes."""

from __future__ import annotations

import sys


def peak_memory() -> float:
    """Of torch's allocator where there is a CUDA GPU, else of the whole process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e9
    import resource

    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
