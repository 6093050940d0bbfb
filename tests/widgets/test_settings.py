"""The settings panel: each value with where it came from, changed for the kernel, written only when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.config import forget_kernel, settings
from mlxnb.env_file import read_env_file, write_env_file
from mlxnb.magics.defaults import MLXNB

from .conftest import until


@pytest.fixture
def here(panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLXNB_TOP_P", "0.9")
    (tmp_path / ".env").write_text("# mine\nMLXNB_MODEL=old\nOTHER='x y'\n")
    yield panel("settings")
    forget_kernel()


def origin(panel: Any, name: str) -> str:
    return str(panel._origins[name].value)


def test_each_value_says_where_it_came_from(here: Any) -> None:
    assert here.fields["top_p"].value == "0.9"
    assert "MLXNB_TOP_P" in origin(here, "top_p")
    assert "MLXNB_MODEL in .env" in origin(here, "model")
    assert "default" in origin(here, "temperature")
    assert "MLXNB_MODEL in .env" in here.picture()[1]


def test_a_change_holds_for_the_kernel_and_its_cells_and_is_not_saved(here: Any, tmp_path: Path) -> None:
    before = (tmp_path / ".env").read_text()
    here.fields["temperature"].value = "0.7"
    here.fields["model"].value = "new"
    assert settings().temperature == 0.7
    assert MLXNB().temperature == 0.7
    assert "%config, over MLXNB_MODEL in .env" in origin(here, "model")
    assert (tmp_path / ".env").read_text() == before
    here.back.click()
    assert settings().temperature == 0.0
    assert here.fields["model"].value == "old"


def test_saving_writes_what_was_changed_and_leaves_the_rest(here: Any, tmp_path: Path) -> None:
    here.save.click()
    assert "Nothing was changed" in here._notice.value
    here.fields["model"].value, here.fields["quantize"].value = "my model", "none"
    here.save.click()
    assert "2 settings written to .env" in here._notice.value
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines == ["# mine", 'MLXNB_MODEL="my model"', "OTHER='x y'", "MLXNB_QUANTIZE=none"]
    here.back.click()
    assert settings().model == "my model"


def test_a_wrong_value_is_refused_and_what_held_stays(here: Any) -> None:
    here.fields["temperature"].value = "hot"
    assert "temperature is" in here._notice.value
    assert here.fields["temperature"].value == "0.0"


def test_what_a_cell_changes_is_shown(here: Any) -> None:
    MLXNB().max_tokens = 99
    until(lambda: here.fields["max_tokens"].value == "99")
    assert "%config" in origin(here, "max_tokens")


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
