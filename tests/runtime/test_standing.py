"""The table of backends and what it recommends: ready, possible or missing, measured or said not to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxnb.backends.rates import Rates, rate_book
from mlxnb.decision import Absent, Rejected
from mlxnb.errors import OptionError, UnsupportedModelError
from mlxnb.hardware import Accelerator
from mlxnb.models import ModelSource, resolve
from mlxnb.render.backends import backends_table, recommendations_table
from mlxnb.request import AS_STORED
from mlxnb.runtime import Engine, remedies
from mlxnb.runtime.remedies import Recommendation, recommendations
from mlxnb.runtime.standing import Standing
from tests.scripted import ScriptedBackend

POCKET = resolve("pocket")
H200 = Accelerator("cuda", "NVIDIA H200", 150 * 10**9, 149 * 10**9, "570")
M3 = Accelerator("metal", "Apple M3", 16 * 10**9, 8 * 10**9)
RADEON = Accelerator("rocm", "Radeon", 16 * 10**9, None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("MLXNB_BACKEND", raising=False)


class Converts(ScriptedBackend):
    """Reads another format than the model has."""

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> Any:
        return Rejected(self.name, "it reads GGUF files", "convert it with %mlxnb convert")


def engine_of(*backends: ScriptedBackend, **options: Any) -> Engine:
    return Engine({backend.name: backend for backend in backends}, **options)


def all_kinds() -> list[ScriptedBackend]:
    return [
        ScriptedBackend(name="slow", delay=0.004, pieces=["word "] * 40),
        ScriptedBackend(name="gone", decision=Absent("gone", "not installed", "pip install it")),
        ScriptedBackend(name="away", decision=Rejected("away", "nothing answers at localhost:9", "start it")),
        Converts(name="converts"),
        ScriptedBackend(name="odd", fails={"find": lambda: KeyError("a fault of its own")}),
        ScriptedBackend(name="fast", pieces=["word "] * 40),
    ]


def test_what_each_backend_needs() -> None:
    made = engine_of(*all_kinds())
    table = {each.backend: each for each in made.backends_table()}
    made.close()
    assert list(table) == ["slow", "fast", "away", "converts", "odd", "gone"]  # ready ones first
    assert table["slow"] == Standing("slow", "ready", "scripted")
    assert table["gone"] == Standing("gone", "missing", "not installed", "pip install it")
    assert table["away"] == Standing("away", "possible", "nothing answers at localhost:9", "start it")
    assert table["converts"].remedy == "convert it with %mlxnb convert"
    assert (table["odd"].status, table["odd"].reason) == ("possible", "KeyError: 'a fault of its own'")
    assert [each.rates for each in table.values()] == [None] * 6


def test_measuring_puts_them_in_order_and_leaves_memory_as_it_was() -> None:
    backends = {each.name: each for each in all_kinds()}
    made = engine_of(*backends.values())
    made.load("pocket", "slow")
    said: list[tuple[int, int, str]] = []
    table = made.backends_table(measure=True, progress=lambda *steps: said.append(steps))
    assert [info.backend for info in made.models()] == ["slow"]
    made.close()
    slow, fast = backends["slow"], backends["fast"]
    assert (slow.loads, fast.loads, fast.closed) == (1, 1, 1)  # the one in memory was measured there
    assert [each.backend for each in table][:2] == ["fast", "slow"]
    first, second = table[:2]
    assert first.rates is not None
    assert second.rates is not None
    assert first.rates.typical < second.rates.typical
    assert (first.device, first.loaded, second.loaded) == ("cpu", False, True)
    assert (0, 6, "measuring slow") in said
    assert (5, 6, "measuring fast") in said
    assert rate_book().get("fast", POCKET, AS_STORED) == first.rates


def test_a_backend_that_makes_its_own_of_a_model_is_measured_where_a_person_asks(tmp_path: Path) -> None:
    class Exports(ScriptedBackend):
        def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> Any:
            if not named:
                return Rejected(self.name, "auto converts none", "take --backend exports")
            (tmp_path / "own.gguf").write_bytes(b"its own")
            return ModelSource(name, tmp_path / "own.gguf", "path", format="gguf")

    exports = Exports(["word "] * 40, name="exports")
    made = engine_of(ScriptedBackend(["word "] * 40, name="slow", delay=0.004), exports)
    made.backends_table()
    assert not (tmp_path / "own.gguf").exists()
    table = made.backends_table(measure=True)
    assert table == made.backends_table()  # it is remembered, though auto does not take it there
    first, *_ = made.setup_recommendations()
    assert made.generate("go", max_tokens=2).provenance.backend == "slow"
    made.close()
    assert [(each.backend, each.status, each.rates is not None) for each in table] == [
        ("slow", "ready", True),
        ("exports", "possible", True),
    ]
    assert (first.remedy, first.basis) == ("take --backend exports", "measured")
    assert first.gain is not None
    assert first.gain > 1.1


def test_a_measurement_can_be_left() -> None:
    class Enough(Exception):
        pass

    def progress(done: int, total: int, doing: str) -> None:
        if done == 5:
            raise Enough

    backends = {each.name: each for each in all_kinds()}
    made = engine_of(*backends.values())
    with pytest.raises(Enough):
        made.backends_table(measure=True, progress=progress)
    assert made.models() == []
    made.close()
    assert all(each.loads == each.closed for each in backends.values())


def test_a_model_that_cannot_be_measured_says_why() -> None:
    broken = ScriptedBackend(name="broken", fails={"load": lambda: UnsupportedModelError("No.", "Take fast.")})
    made = engine_of(broken, ScriptedBackend(name="fast", pieces=["word "] * 40))
    table = made.backends_table(measure=True)
    again = made.backends_table()
    made.close()
    assert again == table
    [found] = [each for each in table if each.backend == "broken"]
    assert (found.rates, found.rates_reason, found.remedy) == (None, "No", "Take fast.")


def test_an_engine_without_caches_measures_for_this_time_only() -> None:
    made = engine_of(*all_kinds(), caching=False)
    assert made.backends_table(measure=True)[0].rates is not None
    assert made.backends_table()[0].rates is None
    made.close()


def test_a_model_that_is_not_here_is_not_downloaded() -> None:
    made = engine_of(*all_kinds())
    table = {each.backend: each for each in made.backends_table("someone/nothing", measure=True)}
    found = made.setup_recommendations("someone/nothing")
    with pytest.raises(OptionError):
        made.backends_table(dtype="float7")
    made.close()
    assert table["slow"].status == "possible"
    assert "No model goes by 'someone/nothing'" in table["slow"].reason
    assert [each.backend for each in found if "download" in each.remedy] == ["slow, fast"]


def standing(name: str, typical: float | None = None, **more: Any) -> Standing:
    rates = None if typical is None else Rates(512 / typical, 256 / typical)
    return Standing(name, more.pop("status", "ready"), "a reason", rates=rates, **more)


def missing(name: str) -> Standing:
    return standing(name, status="missing", remedy=f"pip install {name}")


def test_nothing_to_do() -> None:
    assert recommendations([standing("torch", 1), standing("mlx", 2)], []) == []
    assert recommendations([standing("torch")], []) == []  # one alone is no choice


def test_a_setting_that_names_the_slower_one_comes_first() -> None:
    table = [standing("torch", 1), standing("mlx", 3), missing("onnx")]
    first, second = recommendations(table, [], "mlx", "MLXNB_BACKEND")
    assert first == Recommendation(
        "%config MLXNB.backend = 'auto'", "torch", "MLXNB_BACKEND names mlx, and torch is faster here", "measured", 3
    )
    assert second == Recommendation("pip install onnx", "onnx", "a reason", "not measured")
    for pinned in ("torch", "auto", "onnx"):
        assert [each.basis for each in recommendations(table, [], pinned)] == ["not measured"]
    assert recommendations([standing("torch", 1), standing("mlx", 1.05)], [], "mlx") == []  # a tie


def test_what_was_measured_to_gain_nothing_is_not_recommended() -> None:
    possible = standing("llamacpp", 2, status="possible", remedy="take it")
    assert recommendations([standing("torch", 1), possible], []) == []
    assert [each.gain for each in recommendations([standing("torch", 5), possible], [])] == [2.5]


def test_what_was_not_measured_is_said_so_and_has_no_figure() -> None:
    found = recommendations([standing("torch", 1), standing("mlx")], [])
    assert found == [Recommendation("%mlxnb backends --measure", "mlx", "not measured yet: mlx", "not measured")]


@pytest.mark.parametrize(
    ("gpu", "build", "table", "remedy"),
    [
        (H200, "2.13.0+cpu", [standing("torch")], "CUDA build"),
        (RADEON, "2.13.0+cpu", [standing("torch")], "ROCm build"),
        (H200, "2.13.0+cu130", [standing("torch")], None),
        (H200, "2.13.0+cpu", [missing("torch"), standing("llamacpp")], "pip install torch"),
        (M3, "2.13.0", [missing("mlx"), missing("torch")], "pip install mlx"),
        (M3, "2.13.0", [standing("mlx", 1), missing("torch")], None),
        (M3, "2.13.0", [missing("mlx"), standing("torch", 1)], None),  # by its GPU too; no figure says which is faster
    ],
)
def test_a_gpu_that_no_backend_uses(
    gpu: Accelerator, build: str, table: list[Standing], remedy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remedies, "version", lambda library: build)
    found = [each for each in recommendations(table, [gpu]) if each.basis == "hardware"]
    assert len(found) == (remedy is not None)
    for each in found:
        assert remedy is not None
        assert remedy in each.remedy
        assert gpu.name in each.reason
        assert each.gain is None


def test_the_settings_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    rate_book().add("slow", POCKET, AS_STORED, Rates(10, 10))
    rate_book().add("fast", POCKET, AS_STORED, Rates(40, 40))
    monkeypatch.setenv("MLXNB_BACKEND", "slow")
    made = engine_of(*all_kinds())
    first, *others = made.setup_recommendations()
    made.close()
    assert (first.backend, first.gain, first.basis) == ("fast", 4, "measured")
    assert [each.basis for each in others] == ["not measured"] * len(others)


def test_how_it_reads() -> None:
    hostile = "<img onerror=alert(1)>"
    rates = Rates(4040, 128.4, "cpu", at=1e9)
    table = [Standing("torch", "ready", "installed", device="cpu", rates=rates, loaded=True), missing(hostile)]
    shown = backends_table(table, hostile)
    assert "<img" not in shown.html()
    text = shown.text()
    assert "ready, in memory" in text
    assert "4\u202f040" in text
    assert "● missing" in text
    assert "not measured" in text
    found = recommendations_table(recommendations([standing("torch", 1), standing("mlx", 2.5)], [], "mlx"))
    assert "2.5 times as fast, measured" in found.text()
    assert "a fact of the hardware" in recommendations_table(recommendations([missing("mlx")], [M3])).text()
