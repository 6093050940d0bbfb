"""Metal kernels on any machine's processor, with a sanitizer: `metal_kernel` takes what `mx.fast.metal_kernel` takes.

A kernel's body is compiled by the machine's C++ compiler and run in a child process with Metal's execution model. Every
memory access is checked and counted. What is not modelled: coalescing, occupancy, registers, fast-math and the order in
which `simd_sum` adds. That a kernel compiles here does not prove that Metal's own compiler takes it.
"""

from .core import Kernel, Typed
from .kernel import EmulatedKernel, emulated, metal_kernel
from .report import Finding, Report, ThreadgroupArray, Traffic
from .toolchain import compiler

__all__ = [
    "EmulatedKernel",
    "Finding",
    "Kernel",
    "Report",
    "ThreadgroupArray",
    "Traffic",
    "Typed",
    "compiler",
    "emulated",
    "metal_kernel",
]
