"""The settings panel: each value with where it came from, changed for the session, written only when asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.config import forget_kernel, settings
from mlxnb.env_file import read_env_file, write_env_file
from mlxnb.errors import ModelTooLargeError
from mlxnb.magics.defaults import MLXNB
from tests.magics.conftest import shell
from tests.scripted import ScriptedBackend

from .conftest import until

__all__ = ["shell"]


@pytest.fixture
def here(panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLXNB_TOP_P", "0.9")
    (tmp_path / ".env").write_text("# mine\nMLXNB_MODEL=old\nOTHER='x y'\n")
    yield panel("settings")
    forget_kernel()


def origin(panel: Any, name: str) -> str:
    return str(panel._origins[name].value)


def looked(panel: Any) -> None:
    def quiet() -> bool:
        with panel.lock:
            return not any(aside.running for aside in panel._asides.values())

    until(quiet)


def test_each_value_says_where_it_came_from(here: Any) -> None:
    assert here.fields["top_p"].value == "0.9"
    assert "MLXNB_TOP_P" in origin(here, "top_p")
    assert "MLXNB_MODEL in .env" in origin(here, "model")
    assert "default" in origin(here, "temperature")
    assert "MLXNB_MODEL in .env" in here.picture()[1]


def test_a_change_holds_for_the_session_and_its_cells_and_is_not_saved(here: Any, tmp_path: Path) -> None:
    before = (tmp_path / ".env").read_text()
    assert here.save.disabled
    assert here.back.disabled
    here.fields["temperature"].value = "0.7"
    here.fields["model"].value = "new"
    assert settings().temperature == 0.7
    assert MLXNB().temperature == 0.7
    assert "this session, over MLXNB_MODEL in .env" in origin(here, "model")
    assert (tmp_path / ".env").read_text() == before
    here.back.click()
    assert "Temperature" in here.question._said.value
    assert settings().temperature == 0.7
    here.question.no.click()
    assert settings().temperature == 0.7
    here.back.click()
    here.question.yes.click()
    assert settings().temperature == 0.0
    assert here.fields["model"].value == "old"
    assert here.question.view.layout.display == "none"


def test_a_change_counts_for_the_next_cell(here: Any, shell: InteractiveShell, script: ScriptedBackend) -> None:
    here.fields["model"].value = "pocket"
    here.fields["backend"].value, here.fields["temperature"].value, here.fields["max_tokens"].value = (
        "scripted", "0.7", "2",
    )  # fmt: skip
    shell.run_cell("%%generate --into result --cache off\nHi", store_history=False)
    heard = script.requests[-1]
    assert (heard.backend, heard.sampling.temperature, heard.max_tokens) == ("scripted", 0.7, 2)


def test_a_change_counts_for_the_next_load(here: Any) -> None:
    here.fields["memory_mb"].value = "1"
    engine = mlxnb.engine()
    for info in engine.models():
        engine.unload(info.name)
    with pytest.raises(ModelTooLargeError, match="may take 1"):
        engine.load("pocket", "torch")
    here.fields["memory_mb"].value = ""
    here.fields["keep_alive"].value = "60"
    engine.load("pocket", "torch")
    [resident] = engine.residents()
    assert resident.goes is not None
    assert resident.goes <= 60
    engine.unload("pocket")


def test_saving_writes_what_was_changed_and_leaves_the_rest(here: Any, tmp_path: Path) -> None:
    here.save.click()
    assert "Nothing was changed" in here._notice.value
    here.fields["model"].value, here.fields["quantize"].value = "my model", "none"
    for word in ("MLXNB_MODEL", "my model", "old", str(tmp_path / ".env")):
        assert word in here._preview.value  # before anything is written
    here.save.click()
    assert "2 settings written to" in here._notice.value
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines == ["# mine", 'MLXNB_MODEL="my model"', "OTHER='x y'", "MLXNB_QUANTIZE=none"]
    assert settings().model == "my model"
    assert "MLXNB_MODEL in .env" in origin(here, "model")
    assert "session" not in origin(here, "model")
    assert here.save.disabled


def test_a_variable_that_wins_over_what_is_saved_is_told_before_and_the_session_keeps_its_value(here: Any) -> None:
    here.fields["top_p"].value = "0.5"
    assert "MLXNB_TOP_P in the environment wins" in here._preview.value
    here.save.click()
    assert "MLXNB_TOP_P=0.5" in Path(".env").read_text()
    assert settings().top_p == 0.5
    assert "this session, over MLXNB_TOP_P, MLXNB_TOP_P in .env" in origin(here, "top_p")
    assert not here.save.disabled


@pytest.mark.parametrize("kind", ["folder", "not text"])
def test_a_file_that_cannot_be_written_is_told_and_nothing_is_lost(here: Any, tmp_path: Path, kind: str) -> None:
    (tmp_path / ".env").unlink()
    if kind == "folder":
        (tmp_path / ".env").mkdir()
    else:
        (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    here.fields["temperature"].value = "0.7"
    here.save.click()
    assert 'role="alert"' in here._notice.value
    assert "cannot be written" in here._notice.value
    assert settings().temperature == 0.7
    assert "own" not in here._notice.value  # no fault of ours
    if kind == "not text":
        assert (tmp_path / ".env").read_bytes() == b"\xff\xfe\x00"
        assert "is not read" in here._preview.value


def test_a_link_to_a_file_stays_a_link(here: Any, tmp_path: Path) -> None:
    (tmp_path / ".env").rename(tmp_path / "shared")
    (tmp_path / ".env").symlink_to(tmp_path / "shared")
    here.fields["temperature"].value = "0.7"
    here.save.click()
    assert (tmp_path / ".env").is_symlink()
    assert "MLXNB_TEMPERATURE=0.7" in (tmp_path / "shared").read_text()


def test_a_wrong_value_is_refused_beside_its_field_and_what_held_stays(here: Any) -> None:
    here.fields["temperature"].value = "hot<b>"
    assert "temperature is" in origin(here, "temperature")
    assert "hot&lt;b&gt;" in origin(here, "temperature")
    assert "What holds is 0.0" in origin(here, "temperature")
    assert here.fields["temperature"].value == "hot<b>"  # to be mended, not typed anew
    assert settings().temperature == 0.0
    here.fields["temperature"].value = "0.5"
    assert "temperature is" not in origin(here, "temperature")
    assert settings().temperature == 0.5


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("temperature", "nan", "It takes a number from 0 to 10"),
        ("max_tokens", "1e3", "It takes a whole number"),
        ("memory_mb", "0", "It takes megabytes"),
        ("backend", "nope", "Backends are auto"),
        ("server_url", "javascript:alert(1)", "It takes a server"),
        ("cache_states_mb", "1.5", "It takes a whole number"),
        ("cache_days", "-1", "It takes a whole number"),
    ],
)
def test_what_a_cell_would_be_refused_is_refused_here(here: Any, name: str, value: str, says: str) -> None:
    before = getattr(settings(), name)
    here.fields[name].value = value
    assert says in origin(here, name)
    assert getattr(settings(), name) == before


def test_a_wrong_variable_is_told_where_its_value_would_be_and_a_secret_is_not(
    panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLXNB_KEEP_ALIVE", "sometimes")
    monkeypatch.setenv("MLXNB_API_KEY", "sesame")
    monkeypatch.setenv("MLXNB_SERVER_URL", "http://me:open-sesame@host/v1")
    here = panel("settings")
    assert "MLXNB_KEEP_ALIVE is &#x27;sometimes&#x27;" in origin(here, "keep_alive")
    assert "given by MLXNB_API_KEY, and never shown" in here._key.value
    page, text = here.picture()
    said = page + text + here._key.value + here._preview.value + "".join(each.value for each in here._origins.values())
    said += "".join(field.value for field in here.fields.values()) + repr(here)
    assert "sesame" not in said
    assert "holds a login" in origin(here, "server_url")


def test_reset_goes_back_to_what_is_built_in(here: Any) -> None:
    assert here.resets["temperature"].disabled
    here.fields["temperature"].value = "0.7"
    here.resets["temperature"].click()
    assert (settings().temperature, settings().givers("temperature")) == (0.0, [])
    here.resets["top_p"].click()  # over the environment
    assert settings().top_p == 1.0
    assert "this session, over MLXNB_TOP_P" in origin(here, "top_p")
    here.resets["model"].click()
    here.save.click()
    assert "MLXNB_MODEL=pocket" in Path(".env").read_text()


def test_a_smaller_budget_asks_and_shrinks_the_cache(here: Any) -> None:
    cache = mlxnb.engine().cache
    long = replace(mlxnb.engine().generate("What does len do?", backend="torch", max_tokens=4), text="x" * 600_000)
    cache.clear()  # also of what other tests left
    for key in "abc":
        assert cache._results.put(key, long)
    here.fields["cache_answers_mb"].value = "7"
    looked(here)
    assert cache.stats().limits["results"] == 7_000_000
    assert not here.question.open
    here.fields["cache_answers_mb"].value = "1"
    looked(here)
    assert "drops 80" in here.question._said.value  # kB of 1.8 MB
    assert settings().cache_answers_mb == 7
    here.question.no.click()
    assert here.fields["cache_answers_mb"].value == "7"
    here.fields["cache_answers_mb"].value = "1"
    looked(here)
    here.question.yes.click()
    looked(here)
    assert settings().cache_answers_mb == 1
    assert sum(use.bytes for use in cache._results.usage().values()) < 1_000_000
    assert cache._results.get("c") == long
    here.fields["cache_answers_mb"].value = "none"
    assert "cache_answers_mb is" in origin(here, "cache_answers_mb")
    here.resets["cache_answers_mb"].click()
    looked(here)
    assert cache.stats().limits["results"] == 256_000_000


def test_days_that_drop_something_ask_first(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = mlxnb.engine()
    engine.generate("What does len do?", backend="torch", max_tokens=4)
    engine.call(lambda: None)
    old = "UPDATE answer SET made = made - 200000"
    engine.cache._results._attempt(lambda db: db.execute(old), None)
    here.fields["cache_days"].value = "1"
    looked(here)
    assert "not used for 1 day" in here.question._said.value
    here.question.no.click()
    assert settings().cache_days is None
    assert here.fields["cache_days"].value == ""
    here.fields["cache_days"].value = "1"
    looked(here)
    here.question.yes.click()
    looked(here)
    assert settings().cache_days == 1
    assert engine.cache.stats().held["results"].entries == 0


def test_what_a_cell_changes_is_shown(here: Any) -> None:
    MLXNB().max_tokens = 99
    until(lambda: here.fields["max_tokens"].value == "99")
    assert "%config" in origin(here, "max_tokens")
    os.environ["MLXNB_TOP_P"] = "0.25"
    until(lambda: here.fields["top_p"].value == "0.25")


NAMES = st.from_regex(r"[A-Z][A-Z_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], include_characters="\n\t"), max_size=30)


@given(first=st.dictionaries(NAMES, VALUES, max_size=4), then=st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, str], then: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("env") / ".env"
    write_env_file(path, first)
    write_env_file(path, then)
    assert read_env_file(path, {*first, *then}).values == {**first, **then}
