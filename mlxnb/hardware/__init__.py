"""What this machine is: processor, memory and accelerators as the system tells them, and speeds as measured."""

from .gpu import Accelerator, accelerators, driver_trouble
from .memory import cgroup_limits, human_bytes, memory_free, memory_total
from .processor import Cores, chip, cores, instruction_sets, is_apple_silicon
from .speed import Speed, Speeds, remembered, speeds

__all__ = [
    "Accelerator",
    "Cores",
    "Speed",
    "Speeds",
    "accelerators",
    "cgroup_limits",
    "chip",
    "cores",
    "driver_trouble",
    "human_bytes",
    "instruction_sets",
    "is_apple_silicon",
    "memory_free",
    "memory_total",
    "remembered",
    "speeds",
]
