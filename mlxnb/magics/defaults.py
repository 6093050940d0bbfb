"""The defaults of `%%generate` as `%config MLXNB` lists and sets them; what a line says wins over them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from traitlets import Bool, Enum, TraitError, TraitType, Unicode
from traitlets.config import Config, Configurable

from ..config import KERNEL, SETTINGS, set_for_kernel, settings
from ..errors import OptionError
from ..request import CACHE_MODES, check_option, check_think, option_fields
from .options import FORMATS

# Settings of the engine, which no Request carries: what %config says of them goes to `config`.
OF_THE_ENGINE = ("server_url", "batch_size", "memory_mb", "keep_alive", "probe")
NOT_OPTIONS = ("format", *OF_THE_ENGINE)


class Option(TraitType[Any, Any]):
    """A trait that takes what the Request's option of the same name takes."""

    def __init__(self, name: str) -> None:
        self.field = option_fields()[name]
        optional = self.field.default is None
        super().__init__(self.field.default, allow_none=optional, help=self.field.metadata["help"])

    def validate(self, obj: Any, value: Any) -> Any:
        try:
            return check_option(self.name or "", value, self.field.metadata)
        except OptionError as error:
            raise TraitError(str(error)) from None


class Given(TraitType[Any, Any]):
    """A trait that takes what the setting of the same name takes; None takes back what %config said.

    It keeps no value of its own: one would hide from the engine and the panels what equals it, and show what no longer
    holds.
    """

    def __init__(self, help: str) -> None:
        super().__init__(None, allow_none=True, help=help)

    def validate(self, obj: Any, value: Any) -> Any:
        try:
            return SETTINGS[self.name or ""].read(self.name or "", value)
        except OptionError as error:
            raise TraitError(str(error)) from None

    def get(self, obj: Any, cls: Any = None) -> Any:
        """What holds now."""
        return getattr(settings(), self.name or "")

    def set(self, obj: Any, value: Any) -> None:
        """Tell everybody."""
        self._validate(obj, value)
        set_for_kernel(self.name or "", value)


class Thinking(TraitType[Any, Any]):
    """A trait that takes what the Request's `think` takes."""

    def __init__(self, help: str) -> None:
        super().__init__(None, allow_none=True, help=help)

    def validate(self, obj: Any, value: Any) -> Any:
        try:
            return check_think(value)
        except OptionError as error:
            raise TraitError(str(error)) from None


class MLXNB(Configurable):
    """Defaults of %generate and %%generate, until the kernel ends or `%config MLXNB.name = value` changes them.

    They hold for the magics only: in Python, pass options to the engine's calls. Those that are settings too, see
    `config`, keep no value here; of them the last five are the engine's own, and hold for whatever asks it.
    """

    model = Given("name of the model").tag(config=True)
    backend = Given("auto, or the name of a backend").tag(config=True)
    dtype = Unicode(None, allow_none=True, help="dtype of the weights; None is the model's own").tag(config=True)
    adapter = Unicode(None, allow_none=True, help="folder of a LoRA adapter on top of the model").tag(config=True)
    quantize = Given("what weights are quantised to: int8, int4 or none").tag(config=True)
    system = Unicode(None, allow_none=True, help="system message before every prompt").tag(config=True)
    strict = Bool(False, help="fail where a path that was asked for is not taken").tag(config=True)
    cache = Enum(CACHE_MODES, "auto", help="use and keep finished answers and KV states").tag(config=True)
    think = Thinking(help="on, off, or tokens that a thinking model may think; None is its own way").tag(config=True)
    format = Enum(FORMATS, "markdown", help="how an answer is shown").tag(config=True)
    max_tokens = Given(option_fields()["max_tokens"].metadata["help"]).tag(config=True)
    temperature = Given(option_fields()["temperature"].metadata["help"]).tag(config=True)
    top_p = Given(option_fields()["top_p"].metadata["help"]).tag(config=True)
    top_k = Option("top_k").tag(config=True)
    min_p = Option("min_p").tag(config=True)
    repetition_penalty = Option("repetition_penalty").tag(config=True)
    seed = Option("seed").tag(config=True)
    logprobs = Option("logprobs").tag(config=True)
    kv_bits = Option("kv_bits").tag(config=True)
    kv_group_size = Option("kv_group_size").tag(config=True)
    draft = Unicode(None, allow_none=True, help="what guesses ahead: a smaller model, or lookup").tag(config=True)
    draft_tokens = Option("draft_tokens").tag(config=True)
    prefill_step = Option("prefill_step").tag(config=True)
    server_url = Given("address of an OpenAI-compatible server").tag(config=True)
    batch_size = Given("most rows of a batch that are computed at once").tag(config=True)
    memory_mb = Given("megabytes that the models in memory may take together").tag(config=True)
    keep_alive = Given("seconds that an idle model stays in memory; forever where it is not set").tag(config=True)
    probe = Given("auto: measure which backend is the fastest; off: keep the built-in order").tag(config=True)

    def update_config(self, config: Config) -> None:
        """As Configurable does, but a refused value is forgotten; traitlets would raise it again at each change."""
        before = self.config
        try:
            super().update_config(config)
        except TraitError:
            self.set_trait("config", before)
            raise

    def request_options(self, given: Collection[str] = ()) -> dict[str, Any]:
        """The defaults under the names that `Request.of` takes. Those in `given` are not read, and None: a wrong one
        stops no line that says something else.
        """
        names = [name for name in self.class_own_traits(config=True) if name not in NOT_OPTIONS]
        return {name: None if name in given else getattr(self, name) for name in names}

    def origin(self, name: str) -> str:
        """Where a default came from: "default", an environment variable, one in `.env`, or "%config"."""
        return self.givers(name)[0]

    def givers(self, name: str) -> list[str]:
        """Every place that gives a default, the one that holds first."""
        if name in SETTINGS:
            return settings().givers(name) or ["default"]
        return ["default"] if getattr(self, name) == self.traits()[name].default() else [KERNEL]
