"""Weight files that are fetched in several goes: resumed, checked, and never sent a token that is not theirs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mlxnb.errors import DownloadError
from mlxnb.models.cache import storage_of
from mlxnb.models.hub import download
from mlxnb.models.hub_weights import partial_bytes

from .stand_in_hub import Handler, Hub, Repository, serve

WEIGHTS = "model.safetensors"


@pytest.fixture
def sha256(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub names large files by their sha256."""

    def facts(data: bytes) -> dict[str, Any]:
        return {"size": len(data), "oid": hashlib.sha256(data).hexdigest()}

    monkeypatch.setattr(Handler, "facts", staticmethod(facts))


class Enough(Exception):
    pass


def stop_at(share: float) -> Any:
    def progress(done: int, total: int) -> None:
        if done > total * share:
            raise Enough

    return progress


@pytest.fixture(autouse=True)
def every_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxnb.models.progress.SECONDS_BETWEEN_CALLS", 0)


def weights_of(hub: Hub) -> bytes:
    return hub.repositories["lab/tiny"].files[WEIGHTS]


def ranges(hub: Hub) -> list[str | None]:
    return [asked for method, path, asked, _ in hub.asked if method == "GET" and path.endswith(WEIGHTS)]


@pytest.mark.usefixtures("sha256")
def test_it_goes_on_where_it_was_stopped_again_and_again(hub: Hub) -> None:
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(Enough):
            download("lab/tiny", progress=stop_at(share))
    assert 0.9 * len(weights_of(hub)) < partial_bytes("lab/tiny") < len(weights_of(hub))
    heard: list[tuple[int, int]] = []
    folder, _ = download("lab/tiny", progress=lambda done, total: heard.append((done, total)))
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
    began = [int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0 for asked in ranges(hub)]
    assert began == sorted(began)
    assert len(began) == 4
    assert heard == sorted(heard)
    assert heard[-1][0] == heard[-1][1]
    assert partial_bytes("lab/tiny") == 0
    assert not list(storage_of("lab/tiny").glob("blobs/*.incomplete"))


@pytest.mark.usefixtures("sha256")
def test_who_waits_for_the_lock_of_another_can_be_stopped(hub: Hub) -> None:
    storage, name = storage_of("lab/tiny"), hashlib.sha256(weights_of(hub)).hexdigest()
    lock = FileLock(storage.parent / ".locks" / storage.name / f"{name}.lock", thread_local=False)
    Path(lock.lock_file).parent.mkdir(parents=True)
    lock.acquire()
    late = threading.Timer(8, lock.release)  # or a failure of this test would hang
    late.start()
    heard: list[int] = []

    def progress(done: int, total: int) -> None:
        heard.append(done)
        if len(heard) == 3:
            raise Enough

    try:
        with pytest.raises(Enough):
            download("lab/tiny", progress=progress)
        assert lock.is_locked
    finally:
        late.cancel()
        lock.release()
    assert ranges(hub) == []
    folder, _ = download("lab/tiny")
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)


@pytest.mark.usefixtures("sha256")
def test_what_was_damaged_on_disk_meanwhile_is_found_and_deleted(hub: Hub) -> None:
    with pytest.raises(Enough):
        download("lab/tiny", progress=stop_at(0.5))
    [part] = storage_of("lab/tiny").glob("blobs/*.incomplete")
    part.write_bytes(b"\0" * part.stat().st_size)
    with pytest.raises(DownloadError, match=r"model\.safetensors of lab/tiny came down other than the Hub lists it"):
        download("lab/tiny")
    folder, _ = download("lab/tiny")
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)


@pytest.mark.usefixtures("sha256")
def test_a_part_that_is_too_long_is_begun_anew(hub: Hub) -> None:
    blobs = storage_of("lab/tiny") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(weights_of(hub)).hexdigest()}.incomplete").write_bytes(b"x" * 10**7)
    folder, _ = download("lab/tiny")
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
    assert ranges(hub) == [None]


@pytest.mark.usefixtures("sha256")
def test_a_server_that_knows_no_ranges(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Enough):
        download("lab/tiny", progress=stop_at(0.5))
    send = Handler.send

    def whole(handler: Handler, data: bytes, headers: dict[str, str], limit: int | None = None) -> None:
        del handler.headers["Range"]
        send(handler, data, headers, limit)

    monkeypatch.setattr(Handler, "send", whole)
    heard: list[int] = []
    folder, _ = download("lab/tiny", progress=lambda done, total: heard.append(done))
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
    assert heard == sorted(heard)


def test_several_shards_come_at_once_and_one_that_fails_stops_the_others(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tiny = hub.repositories["lab/tiny"]
    weights = tiny.files.pop(WEIGHTS)
    names = [f"model-{i:05}-of-00006.safetensors" for i in range(1, 7)]
    tiny.files |= {name: weights + bytes([i]) * 1000 for i, name in enumerate(names)}
    tiny.cut = {names[2]: 10}
    with pytest.raises(DownloadError, match="broke off"):
        download("lab/tiny")
    tiny.cut = {}
    folder, _ = download("lab/tiny")
    for name in names:
        assert (folder / name).read_bytes() == tiny.files[name]


def test_two_downloads_at_once_bring_one_whole_file(hub: Hub) -> None:
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(download("lab/tiny")[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert (folders[0] / WEIGHTS).read_bytes() == weights_of(hub)
    assert ranges(hub) == [None]


@pytest.fixture
def elsewhere(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Another host that the Hub sends GETs of weights to, as it does with its own network of copies."""
    with serve({"lab/tiny": Repository(dict(hub.repositories["lab/tiny"].files))}) as other:
        answer = Handler.answer

        def sent_on(handler: Handler) -> None:
            if handler.hub is not hub or handler.command != "GET" or not handler.path.endswith(WEIGHTS):
                return answer(handler)
            handler.send_response(302)
            handler.send_header("Location", other.url.replace("127.0.0.1", "localhost") + handler.path)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        monkeypatch.setattr(Handler, "answer", sent_on)
        yield other


def test_a_token_stays_with_the_hub(hub: Hub, elsewhere: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    folder, _ = download("lab/tiny")
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
    assert {authorization for *_, authorization in hub.asked} == {"Bearer hf_good"}
    assert [authorization for *_, authorization in elsewhere.asked] == [None]


def test_what_is_there_in_part_needs_less_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    with pytest.raises(Enough):
        download("lab/tiny", progress=stop_at(0.6))
    usage = shutil.disk_usage("/")._replace(free=700_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    folder, _ = download("lab/tiny")
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
