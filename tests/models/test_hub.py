"""Downloads from a Hub: what comes, what never does, and every way in which it fails."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from mlxnb.errors import DownloadError, ModelNotFoundError, NotAModelError
from mlxnb.models import inspect, resolve
from mlxnb.models.cache import storage_of

from .stand_in_hub import Hub, Repository, serve

DATA = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "chat_template.jinja"}


def test_a_download_brings_the_data_files_and_no_code(hub: Hub) -> None:
    source = resolve("lab/tiny")
    assert (source.kind, source.revision, source.name) == ("hub", "a" * 40, "lab/tiny")
    assert {path.name for path in source.path.iterdir()} == DATA
    assert set(hub.fetched()) == DATA
    assert inspect(source.path).parameters == 300_000


def test_the_second_time_it_comes_from_the_cache_without_a_request(hub: Hub) -> None:
    first = resolve("lab/tiny")
    hub.asked.clear()
    second = resolve("lab/tiny")
    assert (second.kind, second.path, second.revision) == ("cache", first.path, first.revision)
    assert not hub.asked


def test_progress_counts_every_byte_and_never_goes_back(hub: Hub) -> None:
    calls: list[tuple[int, int]] = []
    source = resolve("lab/tiny", progress=lambda done, total: calls.append((done, total)))
    size = sum(path.stat().st_size for path in source.path.iterdir())
    assert calls[-1] == (size, size)
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {size}


def test_what_progress_raises_stops_the_download(hub: Hub) -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        resolve("lab/tiny", progress=stop)
    with pytest.raises(ModelNotFoundError):
        resolve("lab/tiny", download=False)


def test_a_dropped_connection_resumes_where_it_broke(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)  # it keeps whole chunks only
    repository = hub.repositories["lab/tiny"]
    repository.cut, repository.drops = {"model.safetensors": 500_000}, 1
    source = resolve("lab/tiny")
    assert (source.path / "model.safetensors").read_bytes() == repository.files["model.safetensors"]
    ranges = [asked for _, path, asked, _ in hub.asked if path.endswith("model.safetensors") and asked]
    assert ranges == ["bytes=500000-"]
    assert capfd.readouterr().err == ""


def test_a_download_that_never_gets_through_is_refused_and_then_resumed(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits between its five retries
    repository = hub.repositories["lab/tiny"]
    repository.cut = {"model.safetensors": 0}
    with pytest.raises(DownloadError, match="broke off") as caught:
        resolve("lab/tiny")
    assert "run it again" in caught.value.remedy
    with pytest.raises(ModelNotFoundError, match="only in part"):
        resolve("lab/tiny", download=False)
    repository.cut = {}
    hub.asked.clear()
    assert resolve("lab/tiny").kind == "hub"
    assert "model.safetensors" in hub.fetched()


def test_a_killed_download_is_never_used(hub: Hub, tmp_path: Path) -> None:
    repository = hub.repositories["lab/tiny"]
    repository.files["model.safetensors"] *= 40
    code = (
        "import os, signal\n"
        "from mlxnb.models import resolve\n"
        "resolve('lab/tiny', progress=lambda done, total: done > total / 4 and os.kill(os.getpid(), signal.SIGKILL))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.run([sys.executable, "-c", code], env=env, timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL
    assert list(storage_of("lab/tiny").glob("blobs/*.incomplete"))
    with pytest.raises(ModelNotFoundError, match="only in part"):
        resolve("lab/tiny", download=False)
    source = resolve("lab/tiny")
    assert (source.path / "model.safetensors").read_bytes() == repository.files["model.safetensors"]


def test_a_server_that_sends_other_sizes_than_it_lists_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.models import hub as module

    listed = module._list_files

    def wrong(repository: str, revision: str | None) -> tuple[str, dict[str, int]]:
        commit, sizes = listed(repository, revision)
        return commit, {**sizes, "model.safetensors": sizes["model.safetensors"] + 1}

    monkeypatch.setattr(module, "_list_files", wrong)
    with pytest.raises(DownloadError, match=r"incomplete \(model.safetensors\)"):
        resolve("lab/tiny")


def test_revisions(hub: Hub) -> None:
    assert resolve("lab/tiny", revision="a" * 40).revision == "a" * 40
    assert resolve("lab/tiny", revision="a" * 40).kind == "cache"
    with pytest.raises(DownloadError, match="no revision 'v9'"):
        resolve("lab/tiny", revision="v9")


def test_a_missing_repository(hub: Hub) -> None:
    with pytest.raises(DownloadError, match="has no model lab/tny") as caught:
        resolve("lab/tny")
    assert "spelling" in caught.value.remedy
    assert "HF_TOKEN" in caught.value.remedy


def test_a_gated_repository_names_the_variable_and_never_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["lab/tiny"].gated = True
    with pytest.raises(DownloadError, match="no token was given") as caught:
        resolve("lab/tiny")
    assert "HF_TOKEN" in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(DownloadError, match="your token has no access") as caught:
        resolve("lab/tiny")
    assert "hf_secret" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert resolve("lab/tiny").kind == "hub"


@pytest.mark.parametrize(("status", "says"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (429, "Wait"), (503, "Wait")])
def test_a_server_that_refuses(hub: Hub, status: int, says: str) -> None:
    hub.repositories["lab/tiny"].status = status
    with pytest.raises(DownloadError, match=f"status {status}") as caught:
        resolve("lab/tiny")
    assert says in caught.value.remedy


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadError, match="cannot be reached") as caught:
        resolve("lab/tiny")
    assert "pocket" in caught.value.remedy
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        resolve("lab/tiny")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "true")
    with pytest.raises(DownloadError, match="TRANSFORMERS_OFFLINE forbids"):
        resolve("lab/tiny")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/cache/blobs"), "may not be written to /cache/blobs"),
        (OSError("Consistency check failed: https://cdn/?Signature=secret"), "broke off (OSError)"),
        (ValueError("Install hf_xet"), "broke off (ValueError)"),
    ],
)
def test_what_the_disk_and_the_libraries_raise(error: Exception, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("mlxnb.models.hub._list_files", fail)
    with pytest.raises(DownloadError) as caught:
        resolve("lab/tiny")
    assert says in caught.value.message
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write everywhere")
def test_a_cache_that_may_not_be_written(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf").chmod(0o500)
    with pytest.raises(DownloadError, match=r"may not be written to .*/hf") as caught:
        resolve("lab/tiny")
    assert caught.value.remedy == "Set HF_HOME to your own folder."


def test_a_misspelt_name_is_told_what_is_here(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve("lab/tiny")
    for name, value in (("HF_HUB_OFFLINE", ""), ("HF_HUB_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
        with pytest.raises(DownloadError, match=r"Here already: lab/tiny\.$"):
            resolve("lab/tinny")


def test_the_disk_is_weighed_before_anything_comes(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2_000_000, 1_000_000, 1_000_000))
    with pytest.raises(DownloadError, match=r"needs 1.2 MB of disk and .* has 1.0 MB free") as caught:
        resolve("lab/tiny")
    assert "HF_HOME" in caught.value.remedy
    assert not hub.fetched()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "pickles"),
        ({"tiny.Q4_K_M.gguf": b"x"}, "GGUF"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "LoRA adapter"),
        ({"README.md": b"x"}, "has no model"),
        ({"model.safetensors": b"x"}, "no config.json"),
    ],
)
def test_a_repository_without_a_model_is_refused_before_it_comes(files: dict[str, bytes], says: str) -> None:
    with serve({"lab/other": Repository(files)}) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(NotAModelError, match=says):
            resolve("lab/other")
        assert not hub.fetched()


def test_mlx_names_are_never_downloaded(hub: Hub) -> None:
    with pytest.raises(ModelNotFoundError, match="never downloads"):
        resolve("mlx://lab/tiny")
    assert not hub.asked
