"""Defaults through `%config MLXNB`."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError

import mlxnb
from mlxnb import config
from mlxnb.errors import OptionError
from mlxnb.magics.defaults import MLXNB
from mlxnb.request import option_fields
from tests.scripted import ScriptedBackend


def test_every_option_of_a_request_has_a_default() -> None:
    defaults = MLXNB()
    options = defaults.request_options()
    assert {name: options[name] for name in option_fields()} == {n: f.default for n, f in option_fields().items()}
    others = {name: value for name, value in options.items() if name not in option_fields()}
    assert others == {
        "model": "pocket",
        "backend": "auto",
        "dtype": None,
        "quantize": None,
        "system": None,
        "strict": False,
        "cache": "auto",
        "draft": None,
        "think": None,
        "adapter": None,
    }


def test_the_environment_sets_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_TEMPERATURE", "0.3")
    monkeypatch.setenv("MLXNB_MODEL", "mlx://small")
    defaults = MLXNB()
    assert (defaults.temperature, defaults.model) == (0.3, "mlx://small")
    assert (defaults.origin("model"), defaults.origin("backend")) == ("MLXNB_MODEL", "default")
    defaults.model = "pocket"
    assert defaults.origin("model") == "%config"


def test_a_wrong_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_TEMPERATURE", "hot")
    with pytest.raises(OptionError, match="MLXNB_TEMPERATURE is 'hot'"):
        MLXNB().request_options()


@pytest.mark.parametrize(("name", "value"), [("temperature", 11), ("max_tokens", 2.5), ("seed", "x"), ("top_p", True)])
def test_a_wrong_value_says_what_it_takes(name: str, value: object) -> None:
    with pytest.raises(TraitError, match="It takes a"):
        setattr(MLXNB(), name, value)


def test_config_lists_and_sets_and_the_line_wins(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("%config MLXNB")
    assert "MLXNB.temperature" in capsys.readouterr().out
    shell.run_cell("%config MLXNB.temperature = 0.7\n%config MLXNB.system = 'Brief.'\n%config MLXNB.format = 'text'")
    shell.run_cell("%generate Hi")
    shell.run_cell("%generate --temperature 0.2 Hi")
    shell.run_cell("%generate --raw Hi")
    assert [request.sampling.temperature for request in script.requests] == [0.7, 0.2, 0.7]
    assert [message.content for message in script.requests[0].messages] == ["Brief.", "Hi"]
    assert script.requests[2].prompt == "Hi"


def test_a_refused_value_changes_nothing_and_is_forgotten(shell: InteractiveShell) -> None:
    defaults = next(each for each in shell.configurables if isinstance(each, MLXNB))
    shell.run_cell("%config MLXNB.temperature = 0.7")
    shell.run_cell("%config MLXNB.temperature = 99")
    shell.run_cell("%config MLXNB.top_p = 0.5")
    assert (defaults.temperature, defaults.top_p) == (0.7, 0.5)


def test_settings_of_the_engine_are_told_to_it(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_BATCH_SIZE", "5")
    shell.run_cell("%config MLXNB.batch_size = 3\n%config MLXNB.server_url = 'http://localhost:9/v1'")
    assert (config.batch_size(), config.server_url()) == (3, "http://localhost:9/v1")
    assert not {"batch_size", "server_url", "probe", "memory_mb"} & set(defaults_of(shell).request_options())
    shell.run_cell("%config MLXNB.batch_size = 0")
    assert config.batch_size() == 3
    mlxnb.unload_ipython_extension(shell)
    assert config.batch_size() == 5


def test_config_and_the_engine_have_the_same_value(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "http://localhost:1/v1", "http://localhost:2/v1"
    monkeypatch.setenv("MLXNB_SERVER_URL", first)
    assert defaults_of(shell).server_url == first
    monkeypatch.setenv("MLXNB_SERVER_URL", second)
    shell.run_cell(f"%config MLXNB.server_url = '{first}'")
    assert (config.server_url(), defaults_of(shell).origin("server_url")) == (first, "%config")
    monkeypatch.setenv("MLXNB_KEEP_ALIVE", "60")
    shell.run_cell("%config MLXNB.keep_alive = 5\n%config MLXNB.keep_alive = None")
    assert defaults_of(shell).keep_alive == config.settings().keep_alive == 60
    assert defaults_of(shell).origin("keep_alive") == "MLXNB_KEEP_ALIVE"


def test_all_that_a_request_takes_comes_from_the_environment(
    shell: InteractiveShell, script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "MLX_TOP_P": "0.5",
        "MLX_QUANTIZATION": "8",
        "MLX_MAX_TOKENS": "3",
        "MLX_TEMPERATURE": "1",
    }.items():
        monkeypatch.setenv(name, text)
    shell.run_cell("%generate Hi")
    shell.run_cell("%generate --quantize none --top-p 1 Hi")
    first, second = script.requests
    assert (first.sampling.top_p, first.quantize, first.max_tokens, first.sampling.temperature) == (0.5, "int8", 3, 1)
    assert (second.sampling.top_p, second.quantize) == (1, None)


def test_a_default_seed_is_undone_for_one_cell(shell: InteractiveShell, script: ScriptedBackend) -> None:
    shell.run_cell("%config MLXNB.seed = 5")
    shell.run_cell("%generate Hi")
    shell.run_cell("%generate --seed none Hi")
    shell.run_cell("%generate --last=1 --seed none")
    assert [request.sampling.seed for request in script.requests] == [5, None, None]


def test_a_wrong_variable_stops_only_what_needs_it(
    shell: InteractiveShell, script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXNB_TEMPERATURE", "hot")
    assert not shell.run_cell("%generate Hi").success
    assert shell.run_cell("%generate --temperature 0.2 --strict Hi").success
    assert shell.run_cell("%mlxnb load pocket").success
    assert shell.run_cell("%config MLXNB.temperature = 0.3").success
    assert shell.run_cell("%generate Hi").success
    assert [request.sampling.temperature for request in script.requests] == [0.2, 0.3]


def defaults_of(shell: InteractiveShell) -> MLXNB:
    return next(each for each in shell.configurables if isinstance(each, MLXNB))
