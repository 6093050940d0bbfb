"""What a profile measured: the machine, models as they were loaded, cases, their runs, and samples beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...result import Timings

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and what is installed on it. Memory in bytes. `bandwidth`: bytes read and written a second, as
    measured by copying, `products`: operations a second by dtype, both of the device named in `device`; `datasheet`:
    the maker's bandwidth where it is known. `settings` is what may change the figures: thread counts, power source.
    """

    chip: str
    cores: str
    memory: int
    system: str
    versions: Mapping[str, str]
    device: str = "cpu"
    bandwidth: float | None = None
    products: Mapping[str, float] = field(default_factory=dict)
    datasheet: float | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """Layers that see the last `tokens` tokens only: bytes that they read and operations that they do for each."""

    tokens: int
    kv_read: float
    flops: float


@dataclass(frozen=True, slots=True)
class Profiled:
    """A model as it was loaded. `weights`: bytes in memory; `weights_read`: bytes of weights that one decode step
    touches, `kv_read`: bytes of keys and values that it reads for each token of context, as METRICS defines both;
    `flops`: operations for a token without attention, `flops_context`: more for each token of context. None where the
    backend does not tell (a server's model).

    Layers with a sliding window are apart, in `windows`; `state_read`: bytes of recurrent states. `flops_head`: what a
    prompt needs of `flops` for its last token only; `weights_prefill`: bytes that a long prompt touches, all experts
    among them. `mlxnb.profiling.model.needs` adds them up. `kv_cache` says how its cache was quantised, None where not,
    `adapter` which LoRA adapter is on it.
    """

    name: str
    source: str
    revision: str | None
    backend: str
    backend_version: str
    device: str
    dtype: str
    quantization: str | None
    attention: str
    parameters: int
    weights: int
    context_length: int | None
    load_time: float | None = None
    weights_read: float | None = None
    kv_read: float | None = None
    flops: float | None = None
    flops_context: float | None = None
    notes: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    state_read: float = 0.0
    flops_head: float = 0.0
    weights_prefill: float | None = None
    kv_cache: str | None = None
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured several times: a scenario with a model and options. `varied` is what sets it apart
    from its siblings (kv_bits, quantize, backend, kernels, a swept field). `model` indexes Report.models; None where it
    could not be loaded, and `error` says why; or why no further runs were made of it. `asked` is the model's name as it
    was asked for, `tokenising` the seconds that its prompts took to become tokens, where that happens here.
    """

    label: str
    scenario: str
    model: int | None
    concurrency: int = 1
    max_tokens: int = 0
    prompt_tokens: int | None = None  # as intended
    varied: Mapping[str, Value] = field(default_factory=dict)
    error: str | None = None
    asked: str = ""
    notes: tuple[str, ...] = ()
    tokenising: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One request of a case. Times in `timings` count from the beginning of the profile. A `round` is one repetition:
    requests that ran together share it; warm-ups are not here. `timings` is None where it failed, as `error` says.
    Memory in bytes: the allocator's peak, and the process's; energy in joules, None where the machine gives none.
    `clients` marks figures that a client took of a server's answer. `own` are the seconds of our own work between the
    request and its prefill, such as tokenising, where it had to wait for no other. `turn` counts the requests of a
    conversation from 0.
    """

    case: int
    round: int
    timings: Timings | None
    generation_tokens: int = 0
    finish_reason: str | None = None
    peak_memory: int | None = None
    peak_rss: int | None = None
    energy: float | None = None
    proposed: int | None = None
    accepted: int | None = None
    positions: tuple[tuple[int, int], ...] = ()
    attention_calls: Mapping[str, int] = field(default_factory=dict)
    clients: bool = False
    notes: tuple[str, ...] = ()
    error: str | None = None
    own: float | None = None
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The machine at one moment, `at` seconds after the beginning. Bytes; shares from 0 to 1 (`cpu` of all cores,
    `own_cpu` of them by this process); degrees Celsius; `pressure` is the system's word for heat (nominal, fair, …).
    None is what this machine does not tell.
    """

    at: float
    rss: int
    available: int
    swap: int
    cpu: float
    own_cpu: float
    gpu: float | None = None
    gpu_memory: int | None = None
    clock: float | None = None  # Hz
    temperature: float | None = None
    pressure: str | None = None
