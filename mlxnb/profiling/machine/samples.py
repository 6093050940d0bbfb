"""A thread that looks at the machine a few times a second while something is measured."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType

from ... import hardware
from ...decision import Rejected
from ...errors import in_words
from ..report import Sample
from . import apple
from .nvidia import nvidia

# Seconds between two samples, and between two looks at what takes longer to tell. A sample took a quarter of a
# millisecond where that was measured, so that all of them take a thousandth of one core.
PERIOD, SELDOM = 0.25, 2.0

# The sensors of the processor, as Linux drivers call them, the best first.
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "acpitz")


@dataclass(frozen=True, slots=True)
class Slow:
    """What is asked seldom; see Sample."""

    gpu: float | None = None
    gpu_memory: int | None = None
    clock: float | None = None
    temperature: float | None = None
    pressure: str | None = None


class Sampler:
    """`with Sampler(clock) as sampler:` fills `samples`; `missing` says once what this machine does not tell, and from
    when on it told nothing more.

    `clock` gives the seconds since the beginning of the profile; the last `keep` samples are kept, None for all.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        period: float = PERIOD,
        slow: Callable[[], Slow] | None = None,
        keep: int | None = None,
    ) -> None:
        import psutil

        self._clock, self._period = clock, period
        self._process, self._psutil = psutil.Process(), psutil
        self.missing: tuple[str, ...] = ()
        self._ask = slow if slow is not None else self._sources()
        self._told, self._asked = Slow(), float("-inf")
        self._taken: deque[Sample] = deque(maxlen=keep)
        self._cores = psutil.cpu_count() or 1
        self._before: tuple[float, float, float, float] | None = None
        self._over = Event()
        self._thread = Thread(target=self._run, name="mlxnb-samples", daemon=True)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Those so far."""
        return tuple(self._taken)

    def __enter__(self) -> Sampler:
        self._told, self._asked = self._ask(), self._clock()
        self._before = self._times()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(self._period):
                self._take()
            self._take()
        except (OSError, RuntimeError, self._psutil.Error) as err:  # what cannot be told once is not asked again
            self.missing += (f"memory, load and heat not told from {self._clock():.0f} s on: {in_words(err)}",)

    def _take(self) -> None:
        at = self._clock()
        if at - self._asked >= SELDOM:
            self._told, self._asked = self._ask(), at
        cpu, own = self._shares()
        told = self._told
        self._taken.append(
            Sample(
                at=at,
                rss=self._process.memory_info().rss,
                available=hardware.memory_free(),
                swap=self._psutil.swap_memory().used,
                cpu=cpu,
                own_cpu=own,
                gpu=told.gpu,
                gpu_memory=told.gpu_memory,
                clock=told.clock,
                temperature=told.temperature,
                pressure=told.pressure,
            )
        )

    def _times(self) -> tuple[float, float, float, float]:
        """Seconds from some beginning: of busy cores, of all cores, of this process on them, on the wall."""
        cores, own = self._psutil.cpu_times(), self._process.cpu_times()
        whole = sum(cores) - getattr(cores, "guest", 0.0) - getattr(cores, "guest_nice", 0.0)
        idle = cores.idle + getattr(cores, "iowait", 0.0)
        return whole - idle, whole, own.user + own.system, time.perf_counter()

    def _shares(self) -> tuple[float, float]:
        """What share of all cores was busy since the last sample, and what share this process took."""
        now, before = self._times(), self._before
        self._before = now
        if before is None:
            return 0.0, 0.0
        busy, whole, own, wall = (b - a for a, b in zip(before, now, strict=True))
        cpu = min(1.0, max(0.0, busy / whole)) if whole > 0 else 0.0
        return cpu, min(1.0, own / (wall * self._cores)) if wall > 0 else 0.0

    def _sources(self) -> Callable[[], Slow]:
        """What this machine tells, each source tried once; the others go to `missing`."""
        gpu, temperature, pressure = self._gpu(), self._temperature(), None
        if sys.platform == "darwin":
            pressure = apple.thermal_state()
        clock = self._frequency if self._frequency() is not None else None
        told = {"processor clock": clock, "GPU load": gpu, "temperature": temperature or pressure}
        self.missing = tuple(f"{name} not told{self._remedy(name)}" for name, ask in told.items() if ask is None)

        def ask() -> Slow:
            busy, used = gpu() if gpu else (None, None)
            return Slow(
                busy,
                used,
                clock() if clock else None,
                temperature() if temperature else None,
                pressure() if pressure else None,
            )

        return ask

    def _gpu(self) -> Callable[[], tuple[float | None, int | None]] | None:
        if sys.platform == "darwin":
            return apple.accelerator if apple.accelerator() != (None, None) else None
        found = nvidia()
        return None if isinstance(found, Rejected) else lambda: (found.busy(), found.memory())

    def _remedy(self, name: str) -> str:
        """What would tell it, in brackets, where something would."""
        if name != "GPU load" or not any(each.kind == "cuda" for each in hardware.accelerators()):
            return " by this machine"
        found = nvidia()
        return f": {found.reason} ({found.remedy})" if isinstance(found, Rejected) else " by its driver"

    def _temperature(self) -> Callable[[], float | None] | None:
        """The GPU's where there is one of its own, else the processor's."""
        found = nvidia() if sys.platform != "darwin" else None
        if found is not None and not isinstance(found, Rejected) and found.temperature() is not None:
            return found.temperature
        return self._sensor if self._sensor() is not None else None

    def _sensor(self) -> float | None:
        read = getattr(self._psutil, "sensors_temperatures", None)  # which psutil has on Linux and FreeBSD
        sensors = read() if read is not None else {}
        name = next((name for name in SENSORS if sensors.get(name)), None)
        return max(float(each.current) for each in sensors[name]) if name is not None else None

    def _frequency(self) -> float | None:
        try:
            told = self._psutil.cpu_freq()
        except (OSError, NotImplementedError, RuntimeError):
            return None
        return told.current * 1e6 if told is not None and told.current else None
