"""The settings that a person gives, read in one place, each with where it came from.

What comes later wins: built in, the `.env` file beside the notebook, the environment, `%config MLXNB`. Within one of
these a setting's own variable, MLXNB_…, wins over the names that other programs have for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import config_values as values
from .config_values import Nothing, Reader
from .env_file import EnvFile, read_env_file
from .errors import OptionError
from .request import FOREVER, option_fields

FILE = ".env"
KERNEL = "%config"  # the origin of what `%config MLXNB` was given
SESSION = "this session"  # the origin of what a panel was given
DEFAULT = object()  # in the place of a value: what is built in, whatever the environment and the file say


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: what it is by itself, what reads it, and the variables of other programs that mean it too."""

    default: Any
    read: Reader
    others: Mapping[str, Reader] = field(default_factory=dict)
    secret: bool = False
    variable: str = ""  # where it is not MLXNB_ and the setting's name

    def value(self) -> Any:
        """What holds where a person says nothing."""
        return self.default() if callable(self.default) else self.default


def _cache_dir() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("mlxnb", appauthor=False)


def _option(name: str, *others: str) -> Setting:
    read = values.option(name)
    return Setting(option_fields()[name].default, read, dict.fromkeys(others, read))


def _plain(default: Any, read: Reader, *others: str) -> Setting:
    return Setting(default, read, dict.fromkeys(others, read))


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "model": Setting("pocket", values.name, {"LLM_CHAT_API_URL": values.chat_model, "MLX_MODEL_NAME": values.name}),
        "backend": _plain("auto", values.name),
        "max_tokens": _option("max_tokens", "MLX_MAX_TOKENS"),
        "temperature": _option("temperature", "MLX_TEMPERATURE"),
        "top_p": _option("top_p", "MLX_TOP_P"),
        "quantize": Setting(None, values.quantize, {"MLX_QUANTIZATION": values.quantization}),
        "batch_size": _plain(None, values.count(), "MLX_BATCH_SIZE"),
        "memory_mb": _plain(None, values.megabytes, "MLX_MEMORY_POOL_SIZE"),
        "keep_alive": _plain(FOREVER, values.keep_alive),
        "server_url": Setting(None, values.url, {"LLM_CHAT_API_URL": values.chat_url}),
        "api_key": Setting(None, values.key, secret=True),
        "probe": _plain("auto", values.choice("auto", "off")),
        "local_models_dir": _plain(None, values.folder, "LOCAL_MODELS_DIR"),
        "cache_dir": _plain(_cache_dir, values.folder),
        "cache_answers_mb": _plain(256, values.count()),
        "cache_states_mb": _plain(4000, values.count()),
        "cache_days": _plain(None, values.count()),
        "lm": _plain("auto", values.choice("auto", "mlx", "torch")),
    }
)

# The variables of each setting, its own first.
VARIABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: (one.variable or f"MLXNB_{name.upper()}", *one.others) for name, one in SETTINGS.items()}
)

# What `%config MLXNB` and the panels were given for this process, and which of the two it was.
_kernel: dict[str, Any] = {}
_given_by: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Given:
    """One place that gives a setting: its variable, where that stands, its text, and what reads it."""

    variable: str
    place: str  # "" for the environment, FILE, KERNEL or SESSION
    text: Any
    read: Reader

    @property
    def origin(self) -> str:
        """In a few words."""
        if self.place in (KERNEL, SESSION):
            return self.place
        return f"{self.variable} in {FILE}" if self.place else self.variable


class Settings:
    """What holds where a person says nothing else. Each is read when it is asked for, so that a wrong one stops only
    what needs it.

    `local_models_dir` is None unless it is set: no folder of a person's home is searched unasked. On disk finished
    answers may take `cache_answers_mb` and KV states `cache_states_mb` megabytes; an answer counts for `cache_days`,
    None for ever. `lm` is what answers the calls of `mlxnb.lm`: "auto", "mlx" or "torch". `batch_size` is the most rows
    that are computed at once, `memory_mb` what the models in memory may take together, each None for as much as memory
    holds; one that was idle for `keep_alive` seconds is given back, "forever" for none. `server_url` is an
    OpenAI-compatible server. With `probe` "auto" a small model is measured on first use on each backend that takes it,
    and long answers are on the way; with "off" nothing is, and the built-in order holds.

    Raises:
        OptionError: on access, a variable holds what the setting does not take; the message names the variable.
    """

    model: str
    backend: str
    max_tokens: int
    temperature: float
    top_p: float
    quantize: str | None
    batch_size: int | None
    memory_mb: int | None
    keep_alive: float | str
    server_url: str | None
    api_key: str | None
    probe: str
    local_models_dir: Path | None
    cache_dir: Path
    cache_answers_mb: int
    cache_states_mb: int
    cache_days: int | None
    lm: str

    def __init__(
        self,
        environment: Mapping[str, str],
        file: EnvFile,
        kernel: Mapping[str, Any],
        given_by: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.file = file
        self._kernel, self._given_by = dict(kernel), dict(given_by)
        known = {variable for names in VARIABLES.values() for variable in names}
        self._environment = {name: text for name, text in environment.items() if name in known}

    def __getattr__(self, name: str) -> Any:
        if name not in SETTINGS:
            raise AttributeError(f"There is no setting {name}.")
        for given in self._given(name):
            try:
                return given.read(given.variable, given.text)
            except Nothing:
                continue
            except OptionError as err:
                at = f" in {self.file.path}" if given.place == FILE else ""
                raise OptionError(f"{err.message[:-1]}{at}." if at else err.message, err.remedy) from None
        return SETTINGS[name].value()

    def __repr__(self) -> str:
        return f"Settings({dict(self.origin)})"  # without the values, some of which are secret

    @property
    def origin(self) -> Mapping[str, str]:
        """Where each setting came from: "default", its variable, its variable in .env, %config or this session."""
        return MappingProxyType({name: (self.givers(name) or ["default"])[0] for name in SETTINGS})

    def givers(self, name: str) -> list[str]:
        """Every place that gives a setting, the one that holds first; the others are overridden by it."""
        return [given.origin for given in self._given(name) if _says(given)]

    def wrong(self) -> list[OptionError]:
        """What is wrong with the settings, one error each."""
        found = []
        for name in SETTINGS:
            try:
                getattr(self, name)
            except OptionError as err:
                found.append(err)
        return found

    def _given(self, name: str) -> Iterator[Given]:
        setting, variables = SETTINGS[name], VARIABLES[name]
        if name in self._kernel:
            text, place = self._kernel[name], self._given_by.get(name, KERNEL)
            yield Given(name, place, text, _built_in(setting) if text is DEFAULT else setting.read)
        for place, texts in (("", self._environment), (FILE, self.file.values)):
            for variable in variables:
                if text := texts.get(variable, "").strip():  # one that is set but empty counts as unset
                    yield Given(variable, place, text, setting.others.get(variable, setting.read))


def _built_in(setting: Setting) -> Reader:
    return lambda variable, value: setting.value()


def _says(given: Given) -> bool:
    try:
        given.read(given.variable, given.text)
    except Nothing:
        return False
    except OptionError:
        return True
    return True


def settings() -> Settings:
    """The settings as they are now."""
    names = [variable for names in VARIABLES.values() for variable in names]
    return Settings(os.environ, read_env_file(Path(FILE).absolute(), names), _kernel, _given_by)


def set_for_kernel(name: str, value: Any, given_by: str = KERNEL) -> None:
    """What `%config MLXNB` or, `given_by` SESSION, a panel was given for a setting; None takes it back, and DEFAULT is
    what is built in.

    Raises:
        OptionError: the setting does not take it.
    """
    if value is None:
        _kernel.pop(name, None)
        return
    if value is not DEFAULT:
        SETTINGS[name].read(name, value)
    _given_by[name] = given_by
    _kernel[name] = value


def if_saved(values: Mapping[str, str]) -> Settings:
    """The settings of a new kernel here once the file gives these `values` to their variables, the rest as it is."""
    file = settings().file
    return Settings(os.environ, replace(file, values={**file.values, **values}), {})


def set_here() -> dict[str, Any]:
    """What `%config MLXNB` or a panel was given in this kernel, by setting."""
    return dict(_kernel)


def forget_kernel() -> None:
    """Take back everything that `%config MLXNB` was given for the engine."""
    _kernel.clear()


def local_models_dir() -> Path | None:
    """The folder that LOCAL_MODELS_DIR names, absolute, or None. Whether it exists is for the reader to find out.

    An external disk may be away for now; that must not stop models that live elsewhere.
    """
    return settings().local_models_dir


def cache_dir() -> Path:
    """The folder of everything that can be made again: MLXNB_CACHE_DIR, or the platform's cache folder."""
    return settings().cache_dir


def lm() -> str:
    """What answers the calls of `mlxnb.lm`: MLXNB_LM, one of "auto", "mlx" and "torch".

    Raises:
        OptionError: it is another word.
    """
    return settings().lm


def server_url() -> str | None:
    """The address of an OpenAI-compatible server: MLXNB_SERVER_URL, or LLM_CHAT_API_URL where that is a web address."""
    return settings().server_url


def memory_mb() -> int | None:
    """Megabytes that the models in memory may take together, or None for what is free."""
    return settings().memory_mb


def batch_size() -> int | None:
    """The most rows of a batch that are computed at once, or None for as many as memory holds."""
    return settings().batch_size


def api_key() -> str | None:
    """The key for the server of `server_url`: MLXNB_API_KEY. One from the environment does not go to a server that a
    `.env` file names: whoever wrote that file would be sent a key that is meant for another.
    """
    now = settings()
    return None if _withheld(now) else now.api_key


def key_is_withheld() -> bool:
    """Whether there is a key that `api_key` does not give, because only a `.env` file names the server."""
    return _withheld(settings())


def _withheld(now: Settings) -> bool:
    server, key = now.origin["server_url"], now.origin["api_key"]
    return server.endswith(f" in {FILE}") and key != "default" and not key.endswith(f" in {FILE}")
