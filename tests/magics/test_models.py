"""`%mlxnb models`, `ps`, `download` and `load --pin` in a real shell, and the same from the command line."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb import cli
from mlxnb.errors import DownloadError, MlxnbError
from mlxnb.models.cache import storage_of
from mlxnb.runtime import Engine
from mlxnb.runtime.downloads import download
from tests.magics.test_commands import interrupted, shown
from tests.models.conftest import own_environment, write_model  # noqa: F401
from tests.models.stand_in_hub import Hub, Repository, serve
from tests.scripted import ScriptedBackend


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one model of 4 MB, and one of GGUF files only."""
    folder = write_model(tmp_path / "served", tensors={"w": np.arange(1_000_000, dtype=np.float32)})
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    with serve({"lab/tiny": Repository(files), "lab/tiny-GGUF": Repository({"tiny.gguf": b"GGUF"})}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.mark.usefixtures("script")
def test_a_download_says_where_it_is_and_how_to_load_it(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], hub: Hub
) -> None:
    said = shown(shell, capsys, "%mlxnb download lab/tiny")
    assert re.search(r"lab/tiny +aaaaaaaaaaaa +4 +float32 +● fits +%mlxnb load lab/tiny", said)
    assert "Here now, in " in said
    listed = shown(shell, capsys, "%mlxnb models")
    assert re.search(r"lab/tiny +Hugging Face cache +● fits", listed)
    hub.asked.clear()
    shown(shell, capsys, "%mlxnb download lab/tiny")
    assert hub.fetched() == []  # nothing is newer


@pytest.mark.usefixtures("script")
def test_a_revision_goes_by_its_folder(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], hub: Hub) -> None:
    said = shown(shell, capsys, f"%mlxnb download lab/tiny --revision {'a' * 40}")
    folder = storage_of("lab/tiny") / "snapshots" / ("a" * 40)
    assert f"%mlxnb load {folder}" in said
    listed = shown(shell, capsys, "%mlxnb models")
    assert str(folder) in listed
    assert f"lab/tiny at {'a' * 40}" in listed


def every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told of each 100 kB, which is what huggingface_hub keeps at a time."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setattr("mlxnb.models.progress.SECONDS_BETWEEN_CALLS", 0)


@pytest.mark.usefixtures("script")
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
def test_an_interrupted_download_keeps_what_came(
    shell: InteractiveShell, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_chunk(monkeypatch)
    from mlxnb.magics import background

    arrived = threading.Event()
    report = background.Steps.report

    def watched(steps: background.Steps, done: int, total: int, doing: str = "") -> None:
        if done > total / 2:
            arrived.set()
            steps.stopped.wait(60)
        report(steps, done, total, doing)

    monkeypatch.setattr(background.Steps, "report", watched)
    said = interrupted(shell, "%mlxnb download lab/tiny", arrived)
    assert re.fullmatch(r"the download stops; .* of 4 MB are here, run it again to go on\.", said)
    # The thread that stopped may still be closing its file.
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(60)
    assert list(storage_of("lab/tiny").glob("blobs/*.incomplete"))


def test_what_is_here_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    download("lab/tiny")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"HF_HUB_OFFLINE forbids the network\. It loads") as caught:
        download("lab/tiny")
    assert str(caught.value).startswith("lab/tiny is here, and nobody can be asked whether there is a newer one: HF_")
    with pytest.raises(DownloadError, match="lab/other is not on this machine, and HF_HUB_OFFLINE forbids the network"):
        download("lab/other")


def test_what_was_stopped_is_a_row_and_goes_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    every_chunk(monkeypatch)

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise Enough

    with pytest.raises(Enough):
        download("lab/tiny", None, stop)
    from mlxnb.models.inventory import inventory

    entry = next(entry for entry in inventory() if entry.name == "lab/tiny")
    assert entry.problem == "lab/tiny was downloaded in part only."
    assert entry.remedy == "%mlxnb download lab/tiny goes on."
    hub.asked.clear()
    heard: list[tuple[int, int]] = []
    source = download("lab/tiny", None, lambda done, total: heard.append((done, total)))
    ranges = [asked for _, path, asked, _ in hub.asked if path.endswith("model.safetensors") and asked]
    assert [int(asked.removeprefix("bytes=").rstrip("-")) > 1_000_000 for asked in ranges] == [True]
    assert heard[-1][0] == heard[-1][1]
    assert (source.path / "model.safetensors").read_bytes() == hub.repositories["lab/tiny"].files["model.safetensors"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("download lab/nope", "has no model lab/nope, or hides it."),
        ("download lab/tiny --revision v9", "lab/tiny has no revision 'v9'."),
        ("download lab/tiny --revision ../x", "revision is '../x'."),
        ("download lab/tiny-GGUF", "has GGUF files, which are for llama.cpp."),
        ("download tiny", "'tiny' names no repository. It takes ORGANISATION/NAME"),
        ("download pocket", "pocket comes with mlxnb."),
        ("download ./here", "./here is a path."),
        ("download lmstudio:tiny", "lmstudio:tiny is a model of a server."),
        ("download https://huggingface.co/lab/tiny", "Give the model's name: lab/tiny."),
        ("download 'lab/ti ny'", "it has a space in it"),
        ("models --context 0", "context is 0. It takes a whole number of at least 1."),
        ("models --context many", "context is 'many'. It takes a whole number of at least 1."),
        ("models --recommend poetry", "There are no recommendations for 'poetry'. Uses are chat, code,"),
        ("load pocket --pin --no-pin", "There are both --pin and --no-pin. Give one."),
        ("load pocket --keep-alive soon", "keep_alive is 'soon'. It takes seconds, 0 for at once, or forever."),
    ],
)
@pytest.mark.usefixtures("script", "hub")
def test_a_mistake_is_named(shell: InteractiveShell, line: str, message: str) -> None:
    with pytest.raises(MlxnbError, match=re.escape(message)) as caught:
        shell.run_line_magic("mlxnb", line)
    assert "\n" not in str(caught.value)
    assert not storage_of("lab/tiny").exists()


def test_every_use_is_in_the_help_and_is_completed(shell: InteractiveShell) -> None:
    from mlxnb.magics.commands import command_parser
    from mlxnb.magics.complete import uses
    from mlxnb.models.uses import USES

    action = command_parser().action("--recommend")
    assert action.help is not None
    assert all(use in action.help for use in USES)
    assert action.const == USES[0]
    assert tuple(uses()) == USES


def test_a_disk_that_is_too_full_downloads_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match=r"lab/tiny needs 4\.0 MB of disk and .* has 1\.0 MB free"):
        download("lab/tiny")
    assert hub.fetched() == []


def test_ps_tells_how_long_models_stay(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No model is in memory" in shown(shell, capsys, "%mlxnb ps")
    shown(shell, capsys, "%mlxnb load pocket --pin --keep-alive 3600")
    assert re.search(r"pocket +scripted +cpu +float32 +\S+ +\d.* stays +● pinned", shown(shell, capsys, "%mlxnb ps"))
    shown(shell, capsys, "%mlxnb load pocket --no-pin")
    assert re.search(r"pocket .* in (59 min 59 s|1 h 0 min|60 min 0 s)", shown(shell, capsys, "%mlxnb ps"))
    shown(shell, capsys, "%generate --keep-alive forever hello")
    assert re.search(r"pocket .* stays", shown(shell, capsys, "%mlxnb ps"))
    shell.run_cell("%generate --keep-alive 0 hello").raise_error()
    mlxnb.engine().call(lambda: None)
    assert "No model is in memory" in shown(shell, capsys, "%mlxnb ps")


def test_a_hostile_folder_is_only_text(
    shell: InteractiveShell,
    scripted: tuple[Engine, ScriptedBackend],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names, configurations and cards are other people's words."""
    from mlxnb.render.models import here_tables

    bad = '<img src=x onerror="alert(1)">'
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path / "models"))
    config = {"model_type": bad, "architectures": [bad], "num_hidden_layers": 1, "num_attention_heads": 1,
              "hidden_size": 8, "quantization": {"bits": 4, "quant_method": bad[:25]}}  # fmt: skip
    write_model(tmp_path / "models" / f"{bad.replace(' ', '')}", config)
    write_model(tmp_path / "models" / "b", config)
    (tmp_path / "models" / "c").mkdir()
    (tmp_path / "models" / "c" / "config.json").write_text(json.dumps({"model_type": 3, bad: bad}))
    tables = here_tables(scripted[0].inventory())
    assert any("&lt;img" in table.html() for table in tables)
    for table in tables:
        assert "<img" not in table.html()


@pytest.mark.usefixtures("hub")
def test_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    assert re.search(r"pocket +in mlxnb +● fits", capsys.readouterr().out)
    assert cli.main(["download", "lab/tiny"]) == 0
    assert "%mlxnb load lab/tiny" in capsys.readouterr().out
    assert cli.main(["models", "--context", "64"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"lab/tiny +Hugging Face cache +● fits", said)
    assert "held against 64 tokens of context" in said
    assert cli.main(["models", "--recommend"]) == 0
    assert "For chat, from the catalogue of 20" in capsys.readouterr().out
    assert cli.main(["models", "--recommend", "poetry"]) == 1
    assert "Uses are chat" in capsys.readouterr().err
    assert cli.main(["download", "lab/none"]) == 1
    assert "mlxnb: " in capsys.readouterr().err
