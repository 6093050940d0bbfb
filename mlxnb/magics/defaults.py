"""The defaults of `%%generate` as `%config MLXNB` lists and sets them; what a line says wins over them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from traitlets import Bool, Enum, TraitError, TraitType, Unicode
from traitlets.config import Config, Configurable

from ..config import VARIABLES, Settings, settings
from ..errors import OptionError
from ..request import CACHE_MODES, QUANTIZE, check_option, option_fields
from .options import FORMATS

NOT_OPTIONS = ("format",)


class _FromEnvironment:
    """A trait whose default is the environment's, where it has a variable for it."""

    def default(self, obj: Any = None) -> Any:
        name, built_in = self.name, self.default_value  # type: ignore[attr-defined]
        return getattr(obj.environment, name) if obj is not None and name in VARIABLES else built_in


class Name(_FromEnvironment, Unicode[str, str]):
    """A trait that takes text."""


class Option(_FromEnvironment, TraitType[Any, Any]):
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


class MLXNB(Configurable):
    """Defaults of %generate and %%generate, until the kernel ends or `%config MLXNB.name = value` changes them.

    They hold for the magics only: in Python, pass options to the engine's calls.
    """

    model = Name("pocket", help="name of the model").tag(config=True)
    backend = Name("auto", help="auto, or the name of a backend").tag(config=True)
    dtype = Unicode(None, allow_none=True, help="dtype of the weights; None is the model's own").tag(config=True)
    quantize = Enum((None, *QUANTIZE), None, help="what weights are quantised to; None is not at all").tag(config=True)
    system = Unicode(None, allow_none=True, help="system message before every prompt").tag(config=True)
    strict = Bool(False, help="fail where a path that was asked for is not taken").tag(config=True)
    cache = Enum(CACHE_MODES, "auto", help="use and keep finished answers and KV states").tag(config=True)
    format = Enum(FORMATS, "markdown", help="how an answer is shown").tag(config=True)
    max_tokens = Option("max_tokens").tag(config=True)
    temperature = Option("temperature").tag(config=True)
    top_p = Option("top_p").tag(config=True)
    top_k = Option("top_k").tag(config=True)
    min_p = Option("min_p").tag(config=True)
    repetition_penalty = Option("repetition_penalty").tag(config=True)
    seed = Option("seed").tag(config=True)
    kv_bits = Option("kv_bits").tag(config=True)
    kv_group_size = Option("kv_group_size").tag(config=True)
    draft = Unicode(None, allow_none=True, help="what guesses ahead: a smaller model, or lookup").tag(config=True)
    draft_tokens = Option("draft_tokens").tag(config=True)

    @cached_property
    def environment(self) -> Settings:
        """What the environment said when a default was first needed."""
        return settings()

    def update_config(self, config: Config) -> None:
        """As Configurable does, but a refused value is forgotten; traitlets would raise it again at each change."""
        before = self.config
        try:
            super().update_config(config)
        except TraitError:
            self.set_trait("config", before)
            raise

    def request_options(self) -> dict[str, Any]:
        """The defaults under the names that `Request.of` takes."""
        return {name: getattr(self, name) for name in self.class_own_traits(config=True) if name not in NOT_OPTIONS}

    def origin(self, name: str) -> str:
        """Where a default came from: "default", an environment variable, or "%config"."""
        value = getattr(self, name)
        first = getattr(self.environment, name) if name in VARIABLES else self.traits()[name].default()
        return self.environment.origin.get(name, "default") if value == first else "%config"
