"""`%mlxnb` in a real shell."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb import hardware
from mlxnb.errors import MlxnbError
from mlxnb.hardware import Speed, Speeds
from mlxnb.request import Precision
from tests.scripted import ScriptedBackend
from tests.tiny import rope, save


def shown(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], cell: str) -> str:
    ran = shell.run_cell(cell)
    ran.raise_error()
    return capsys.readouterr().out


@pytest.mark.usefixtures("script")
def test_models_come_and_go(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    assert "%mlxnb load pocket" in shown(shell, capsys, "%mlxnb")
    assert re.search(r"pocket +scripted +cpu", shown(shell, capsys, "%mlxnb load pocket"))
    status = shown(shell, capsys, "%mlxnb status")
    assert "idle" in status
    assert "memory free" in status
    assert re.search(r"pocket +scripted +cpu", status)
    assert re.search(r"pocket +in mlxnb +● loaded: scripted cpu float32", shown(shell, capsys, "%mlxnb models"))
    assert "memory given back" in shown(shell, capsys, "%mlxnb unload pocket")
    assert re.search(r"pocket +in mlxnb +● fits", shown(shell, capsys, "%mlxnb models"))


def interrupted(shell: InteractiveShell, cell: str, when: threading.Event) -> str:
    """What a cell ends with where Jupyter's stop button is pressed at that moment."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where Python was started in the background
    main = threading.main_thread().ident
    presser = threading.Thread(target=lambda: when.wait() and signal.pthread_kill(main, signal.SIGINT))
    presser.start()
    error = shell.run_cell(cell).error_in_exec
    presser.join()
    assert isinstance(error, KeyboardInterrupt)
    return str(error)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
def test_an_interrupted_load_goes_on(
    shell: InteractiveShell, script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, gate, load = threading.Event(), threading.Event(), script.load

    def slow(source: object, *precision: object) -> object:
        loading.set()
        gate.wait()
        return load(source, *precision)

    monkeypatch.setattr(script, "load", slow)
    said, meanwhile = interrupted(shell, "%mlxnb load pocket", loading), mlxnb.engine().models()
    gate.set()
    mlxnb.engine().call(lambda: None)  # behind the load
    assert said == "pocket goes on loading in the background."
    assert meanwhile == []
    assert [info.name for info in mlxnb.engine().models()] == ["pocket"]


@pytest.mark.usefixtures("script")
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
def test_an_interrupted_download_stops(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    downloading, stopped = threading.Event(), threading.Event()

    def download(
        name: str,
        backend: str,
        dtype: str | None,
        quantize: str | None,
        progress: Callable[[int, int], None],
        *more: object,
    ) -> None:
        try:
            while True:
                progress(1, 10)
                downloading.set()
        finally:
            stopped.set()

    monkeypatch.setattr(mlxnb.engine(), "load", download)
    assert interrupted(shell, "%mlxnb load some/model", downloading) == "the download stops."
    stopped.wait()


def test_config_shows_value_and_origin(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXNB_MAX_TOKENS", "99")
    shell.run_cell("%config MLXNB.top_p = 0.5")
    text = shown(shell, capsys, "%mlxnb config")
    assert re.search(r"max_tokens +99 +MLXNB_MAX_TOKENS", text)
    assert re.search(r"top_p +0.5 +%config", text)
    assert re.search(r"model +pocket +default", text)
    assert re.search(r"local_models_dir +none +default", text)


def test_config_shows_what_is_wrong_overridden_and_secret(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MLXNB_TOP_P=0.5\nMLXNB_API_KEY=sesame\nMLXNB_BATCH_SIZE=4\n", encoding="utf-8")
    monkeypatch.setenv("MLXNB_TEMPERATURE", "hot")
    monkeypatch.setenv("MLX_TOP_P", "0.9")
    shell.run_cell("%config MLXNB.batch_size = 2")
    text = shown(shell, capsys, "%mlxnb config")
    assert re.search(
        r"temperature +● MLXNB_TEMPERATURE is 'hot'. It takes a number from 0 to 10. +MLXNB_TEMPERATURE", text
    )
    assert re.search(r"top_p +0.9 +MLX_TOP_P +MLXNB_TOP_P in .env", text)
    assert re.search(r"batch_size +2 +%config +MLXNB_BATCH_SIZE in .env", text)
    assert re.search(r"api_key +set, not shown +MLXNB_API_KEY in .env", text)
    assert "sesame" not in text
    shell.run_cell("%config MLXNB.temperature = 1")
    text = shown(shell, capsys, "%mlxnb config")
    assert re.search(r"temperature +1.0 +%config +MLXNB_TEMPERATURE", text)


def test_doctor_shows_the_machine(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def speeds(store: object, again: bool) -> Speeds:
        asked.append(again)
        return Speeds((Speed("torch 9", "cpu", 3e10, {"float32": 1.5e11}),), at=0.0)

    monkeypatch.setattr(hardware, "speeds", speeds)
    text = shown(shell, capsys, "%mlxnb doctor")
    assert hardware.chip() in text
    assert re.search(r"torch 9 +cpu +30 +150", text)
    shown(shell, capsys, "%mlxnb doctor --again")
    assert asked == [False, True]


def test_help_is_printed_and_is_the_docstring(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(shell, capsys, "%mlxnb --help")
    assert text.strip() == shell.find_magic("mlxnb").__doc__.strip()
    assert "unload NAME" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("laod pocket", "Unknown command laod. Did you mean load?"),
        ("xyz", "Unknown command xyz. Commands are status"),
        ("load", "%mlxnb load needs a model's name."),
        ("models pocket", "%mlxnb models takes no name."),
        ("load pocket --bakend x", "Unknown option --bakend. Did you mean --backend?"),
        ("load pocket other", "'other' is one word too many."),
        ("load --backend", "expected one argument"),
        ("load 'pocket", "A quote is not closed"),
        ("unload pocket", "pocket is not loaded."),
        ("load pocket --backend nope", "There is no backend 'nope'."),
    ],
)
@pytest.mark.usefixtures("script")
def test_a_mistake_is_named(shell: InteractiveShell, line: str, message: str) -> None:
    with pytest.raises(MlxnbError, match=re.escape(message)):
        shell.run_line_magic("mlxnb", line)


def test_a_quantisation_that_was_refused_is_said(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx_lm")
    shape = {"hidden_size": 40, "intermediate_size": 72, "head_dim": 10, "rope_parameters": rope(1e4)}
    save("LlamaConfig", {**shape, "tie_word_embeddings": True}, tmp_path / "odd")
    load = f"%mlxnb load {tmp_path / 'odd'} --backend mlx --quantize"
    said = shown(shell, capsys, f"{load} int8")
    assert "quantize int8 not used" in said
    assert "leave out quantize" in said
    assert "not used" not in shown(shell, capsys, f"{load} none")
    mlxnb.engine().unload(str(tmp_path / "odd"))
    assert "quantize int4 of" in said_in_error(shell, f"{load} int4 --strict")
    assert str(tmp_path / "odd") not in [info.name for info in mlxnb.engine().models()]


def said_in_error(shell: InteractiveShell, cell: str) -> str:
    ran = shell.run_cell(cell)
    return str(ran.error_in_exec or ran.error_before_exec)


@pytest.mark.parametrize("magic", ["%mlxnb load pocket", "%generate --into answer"])
def test_quantize_none_undoes_a_default_for_one_cell(
    shell: InteractiveShell, script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch, magic: str
) -> None:
    asked: list[str | None] = []
    load = script.load

    def noted(source: object, precision: Precision) -> object:
        asked.append(precision.quantize)
        return load(source, precision)

    monkeypatch.setattr(script, "load", noted)
    shell.run_cell("%config MLXNB.quantize = 'int4'")
    shell.run_cell(f"{magic} --quantize none {'hello' if 'generate' in magic else ''}").raise_error()
    shell.run_cell(f"{magic} {'hello' if 'generate' in magic else ''}").raise_error()
    assert asked == [None, "int4"]


@pytest.mark.usefixtures("script")
def test_backends_stand_in_a_table(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(shell, capsys, "%mlxnb backends")
    assert re.search(r"scripted +● ready .* not measured", text)
    assert "Backends for pocket" in text
    text = shown(shell, capsys, "%mlxnb backends pocket --measure")
    assert re.search(r"scripted +● ready +cpu +[\d.\u202f]+ +[\d.\u202f]+ +[\d.e\u202f-]+ +20", text)
    text = shown(shell, capsys, "%mlxnb backends no/such")
    assert "No model goes by 'no/such'" in text
    assert "What would help" in text
