"""What a profile found: plain values, in seconds and bytes, that go to JSON and back whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..result import Timings

if TYPE_CHECKING:
    from pandas import DataFrame

    from .plots import Plots

SCHEMA = 1  # raised whenever a report of before can no longer be read

INTERRUPTED = "interrupted"  # what ended a stress that a person stopped

Phase = Literal["prefill", "decode"]
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
    among them. `mlxnb.profiling.needs` adds them up. `kv_cache` says how its cache was quantised, None where not,
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


@dataclass(frozen=True, slots=True)
class Share:
    """Seconds of one decode step that a part took, one of inside_parts.PARTS; `layer` is None outside the layers."""

    part: str
    seconds: float
    layer: int | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """Time inside a token: `shares` were timed with a wait after each part, over `steps` decode steps at `context`
    tokens; they add up to `synchronised`. `free` is a step without those waits. Seconds, averages over the middle half
    of the steps.
    """

    model: int
    context: int
    steps: int
    shares: tuple[Share, ...]
    synchronised: float
    free: float


@dataclass(frozen=True, slots=True)
class Point:
    """One case on the roofline: operations a byte, operations a second, and the shares of what the machine can do."""

    case: int
    phase: Phase
    context: int
    intensity: float
    rate: float
    mbu: float | None
    mfu: float | None


@dataclass(frozen=True, slots=True)
class Predicted:
    """Decode rates, tokens a second, that the measured bandwidth allows at a context, beside what was measured."""

    model: int
    context: int
    predicted: float
    measured: float | None


@dataclass(frozen=True, slots=True)
class Roofline:
    """Where prefill and decode stand between the bandwidth and the matrix rate of this machine."""

    bandwidth: float
    product: float
    dtype: str
    points: tuple[Point, ...]
    predicted: tuple[Predicted, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of one case over the same figure of another, pair by pair where they took turns: median, and a 95 %
    interval of it.
    """

    figure: str
    median: float
    low: float
    high: float
    pairs: int

    @property
    def differs(self) -> bool:
        """Whether 1 lies outside the interval."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True, slots=True)
class Comparison:
    """Case `ours` beside case `theirs`, both indices of Report.cases; `profiling.turns` tells whether they took any."""

    ours: int
    theirs: int
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What a finding's remedy would change about the request or the model, so that it can be measured at once."""

    label: str
    options: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Finding:
    """What limits a case. `rule` is its name, `value` the figure that crossed `threshold`, both in `unit`; `evidence`
    says it in words, `cause` and `remedy` what it means and what to do. `tried` is what the remedy gave.
    """

    rule: str
    case: int | None
    figure: str
    value: float
    threshold: float
    unit: str
    evidence: str
    cause: str
    remedy: str
    trial: Trial | None = None
    tried: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Options for a use and a goal, with the gain that the measurements let one expect, and where it came from."""

    use: str
    goal: str
    options: Mapping[str, Value]
    gain: str
    reason: str


@dataclass(frozen=True, slots=True)
class OtherModel:
    """A bigger or a smaller model that fits this memory, and the decode rate that the roofline gives it."""

    name: str
    weights: int
    fits: str
    decode_rate: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Stress:
    """Generation without a pause: bytes that each request left behind, with a 95 % interval, free blocks held by the
    allocator (as a share of what it holds), the rate's change from the first to the last third; `verdict` says leak or
    no leak, with its confidence. `decline` is the share of the rate that was lost, below 0 where it rose, with a 95 %
    interval; None of too few requests with a rate. `ended`: "time", "memory stopped growing", "interrupted", or the
    error of the request that failed.
    """

    case: int
    seconds: float
    requests: int
    growth: float
    low: float
    high: float
    fragmentation: float | None
    decline: float | None
    verdict: str
    confidence: float
    memory: tuple[tuple[float, int], ...] = ()
    ended: str = "time"
    decline_low: float = 0.0
    decline_high: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A whole profile. `partial` says why it is not whole, such as an interrupt; `notes` what else to know. `options`
    are those that every request had.
    """

    environment: Environment
    began: str  # ISO 8601, in UTC
    seconds: float
    warmup: int
    models: tuple[Profiled, ...] = ()
    cases: tuple[Case, ...] = ()
    runs: tuple[Run, ...] = ()
    samples: tuple[Sample, ...] = ()
    insides: tuple[Inside, ...] = ()
    roofline: Roofline | None = None
    findings: tuple[Finding, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    others: tuple[OtherModel, ...] = ()
    stress: tuple[Stress, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    partial: str | None = None
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA
    options: Mapping[str, Value] = field(default_factory=dict)

    def of(self, case: int) -> tuple[Run, ...]:
        """The runs of a case that were answered."""
        return tuple(run for run in self.runs if run.case == case and run.timings is not None)

    def to_json(self) -> str:
        """All of it as JSON, which `from_json` reads back whole."""
        from .saved import to_json

        return to_json(self)

    @staticmethod
    def from_json(source: str | Path) -> Report:
        """A report out of JSON, or out of the file or the folder at a Path.

        Raises:
            ReportError: it cannot be read, is no report, is damaged, or was written by a newer mlxnb.
        """
        from .saved import from_json

        return from_json(source)

    def to_markdown(self) -> str:
        """What a person reads of it, as Markdown for a page or an issue on GitHub."""
        from .markdown import to_markdown

        return to_markdown(self)

    def to_frame(self) -> DataFrame:
        """One row a run with all of its figures, for pandas.

        Raises:
            BackendMissingError: pandas is not installed.
        """
        from .frame import to_frame

        return to_frame(self)

    def plots(self) -> Plots:
        """Its figures by name; what was not measured has none.

        Raises:
            BackendMissingError: Matplotlib is not installed.
        """
        from .plots import plots

        return plots(self)

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write report.json, report.md and one PNG a figure into `folder`; gives their paths.

        Raises:
            ReportError: a file cannot be written there.
        """
        from .save import save

        return save(self, Path(folder))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ..render.profile import profile_bundle

        return profile_bundle(self)
