"""What was measured survives processes, damage and folders that cannot be written."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mlxnb.kernels.store import shared_store
from mlxnb.records import FORMAT, Records

RECORD = {"path": "over_codes", "reason": "3× stock"}


def file_of(folder: Path) -> Path:
    (file,) = folder.glob("*.json")
    return file


def test_a_record_is_there_for_the_next_process(tmp_path: Path):
    folder = tmp_path / "deep" / "tuning"
    Records(folder).put("key", RECORD)
    again = Records(folder)
    assert again.get("key") == RECORD
    assert again.get("other") is None


def test_two_stores_do_not_lose_each_others_records(tmp_path: Path):
    one, two = Records(tmp_path), Records(tmp_path)
    one.put("a", RECORD)
    two.put("b", RECORD)
    fresh = Records(tmp_path)
    assert fresh.get("a") == fresh.get("b") == RECORD


def test_one_folder_is_one_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "one"))
    first = shared_store()
    assert shared_store() is first
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "two"))
    assert shared_store() is not first


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe\x00", b"[]", b"{}", b'{"format": 1}', b'{"format": 1, "key": "key", "record": []}', b"[" * 99999],
)
def test_a_damaged_record_is_moved_aside_with_one_warning(tmp_path: Path, content: bytes):
    Records(tmp_path).put("key", RECORD)
    file = file_of(tmp_path)
    file.write_bytes(content)
    store = Records(tmp_path)
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert store.get("key") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put("key", RECORD)
    assert [moved.read_bytes() for moved in tmp_path.glob("*.damaged")] == [content]
    assert Records(tmp_path).get("key") == RECORD


def test_a_record_of_another_key_is_not_believed(tmp_path: Path):
    store = Records(tmp_path)
    store.put("key", RECORD)
    file_of(tmp_path).rename(store._file("other"))
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert Records(tmp_path).get("other") is None


def test_a_record_of_another_format_is_left_out_of_account(tmp_path: Path):
    Records(tmp_path).put("key", RECORD)
    file = file_of(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": FORMAT + 1}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = Records(tmp_path)
        assert store.get("key") is None
        store.put("key", RECORD)
    assert Records(tmp_path).get("key") == RECORD


def test_a_folder_that_cannot_be_made_costs_the_memory_only(tmp_path: Path):
    (tmp_path / "file").write_text("")
    store = Records(tmp_path / "file" / "tuning")
    with pytest.warns(RuntimeWarning, match="hold for now only"):
        store.put("a", RECORD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put("b", RECORD)
    assert store.get("a") == store.get("b") == RECORD


def test_a_writer_that_dies_leaves_the_old_record(tmp_path: Path):
    Records(tmp_path).put("key", RECORD)
    script = (
        "import os, signal, sys; from pathlib import Path; from mlxnb import records\n"
        "os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "records.Records(Path(sys.argv[1])).put('key', {'path': 'x'})\n"
    )
    dead = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True)
    assert dead.returncode == -9, dead.stderr
    assert Records(tmp_path).get("key") == RECORD
