"""A conversion through the engine: what it cost is told, nothing is left behind, and others are answered meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from mlxnb import pocket
from mlxnb.errors import ConversionError, ModelNotFoundError, OptionError, UnsupportedModelError
from mlxnb.models.sample_text import sample_texts
from mlxnb.runtime import Engine, conversion_check
from tests.scripted import ScriptedBackend

pytest.importorskip("torch")

TEXT = "itertools.chain joins several iterables into one, end to end. collections.deque has two ends.\n"


@pytest.fixture
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "sample.txt"
    file.write_text(TEXT * 3 + "\n---\n" + "for name in names:\n    print(name)\n" * 3)
    return file


@pytest.fixture(autouse=True)
def nothing_in_memory(engine: Engine) -> None:
    """What an earlier test loaded is given back."""
    for name in {info.name for info in engine.models()}:
        engine.unload(name)


@pytest.fixture(params=["torch", "mlx"])
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip({"mlx": "mlx_lm", "torch": "torch"}[request.param])
    return request.param


def test_fewer_bits_cost_more(engine: Engine, backend: str, tmp_path: Path, sample: Path) -> None:
    cost, sizes = [], []
    for bits in (8, 4, 2):
        report = engine.convert("pocket", tmp_path / f"m{bits}", quantize=bits, backend=backend, text=sample)
        assert report.quality is not None
        found = report.quality.divergence
        cost.append(found.kl_mean)
        sizes.append(report.bytes)
        assert report.source_bytes > report.bytes == (tmp_path / f"m{bits}" / "model.safetensors").stat().st_size
        assert found.tokens > 100
        assert found.kl_p99 is not None
        assert found.kl_p99 > found.kl_mean
        assert report.quality.texts == 2
        assert report.quality.on.startswith(backend)
    assert 0 < cost[0] < cost[1] < cost[2]
    assert sizes == sorted(sizes, reverse=True)
    assert engine.models() == []  # what was loaded for the check was given back


def test_the_same_weights_cost_nothing(engine: Engine, backend: str, tmp_path: Path, sample: Path) -> None:
    report = engine.convert("pocket", tmp_path / "m", text=sample, backend=backend)
    assert report.quality is not None
    found = report.quality.divergence
    assert (found.kl_mean, found.agreement) == (0.0, 1.0)
    assert found.perplexity == found.source_perplexity
    assert report.quality.texts == 2
    assert report.weights == "weights whole"
    texts = sample_texts(sample)
    assert engine.perplexity(texts, backend=backend).value == pytest.approx(found.perplexity, rel=1e-3)


def test_the_report_is_plain_data(engine: Engine, tmp_path: Path, sample: Path) -> None:
    report = engine.convert("pocket", tmp_path / "m", mixed="mixed_4_6", text=sample)
    told = json.loads(json.dumps(report.to_dict()))
    assert told["weights"] == "mixed_4_6, group 64"
    assert told["target"] == str(tmp_path / "m")
    assert told["quality"]["divergence"]["agreement"] <= 1
    answer = engine.generate("Where is sqrt?", model=report.target, max_tokens=20)
    assert "math" in answer.text


def test_a_model_that_was_in_memory_stays_there(engine: Engine, tmp_path: Path, sample: Path) -> None:
    engine.load("pocket")
    engine.convert("pocket", tmp_path / "m", quantize=4, text=sample)
    assert [info.name for info in engine.models()] == ["pocket"]


def test_a_target_has_a_name_of_its_own(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCAL_MODELS_DIR", raising=False)
    named = [
        engine.convert("pocket", check=False, **how).target
        for how in ({}, {"quantize": 4}, {"mixed": "mixed_3_4"}, {"dtype": "float16"})
    ]
    assert named == [f".{os.sep}{n}" for n in ("pocket-mlx", "pocket-4bit", "pocket-mixed_3_4", "pocket-float16-mlx")]
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path / "models"))
    report = engine.convert(named[0], quantize=8, check=False)
    assert report.target == str(tmp_path / "models" / "pocket-mlx-8bit")
    assert report.quality is None
    assert report.unchecked == "it was left out, as asked"


def test_force_replaces_a_model_that_is_in_use(engine: Engine, tmp_path: Path, sample: Path) -> None:
    target = tmp_path / "m"
    engine.convert("pocket", target, quantize=8, check=False)
    before = engine.load(str(target)).memory
    with pytest.raises(OptionError, match="already exists"):
        engine.convert("pocket", target, quantize=4)
    report = engine.convert("pocket", target, quantize=4, text=sample, force=True)
    assert report.quality is not None
    assert report.quality.divergence.kl_mean > 0.01  # the eight bits that were in memory would cost less
    assert report.bytes < before
    assert sorted(os.listdir(tmp_path)) == ["m"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"quantize": 3, "to": "gguf"}, OptionError, "It takes 4, 5, 8, q8_0"),
        ({"to": "mlc"}, OptionError, "It takes mlx, gguf, onnx"),
        ({"text": "nowhere.txt"}, OptionError, "nowhere.txt cannot be read: No such file"),
        ({"backend": "cuda"}, OptionError, "There is no backend 'cuda'"),
        ({"source": "no/such-model-here/at-all"}, ModelNotFoundError, "No model goes by"),
        ({"to": "gguf", "target": "folder"}, OptionError, "name it folder.gguf"),
    ],
)
def test_bad_input_is_refused_before_the_work(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, error: type, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"source": "pocket", "target": "m", **options}
    with pytest.raises(error, match=said):
        engine.convert(**given)
    assert list(tmp_path.iterdir()) == []


def test_sources_that_are_not_whole_are_refused(engine: Engine, tmp_path: Path) -> None:
    engine.convert("pocket", tmp_path / "m", quantize=4, check=False)
    with pytest.raises(UnsupportedModelError, match=r"m is quantised already \(4-bit, group 64\)"):
        engine.convert(str(tmp_path / "m"), tmp_path / "again", quantize=8)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnsupportedModelError, match=r"x\.gguf is GGUF, and conversions start from safetensors"):
        engine.convert(str(tmp_path / "x.gguf"), tmp_path / "again", quantize=8)
    assert sorted(os.listdir(tmp_path)) == ["m", "x.gguf"]


def test_bad_text_is_refused(tmp_path: Path) -> None:
    for name, data, said in (
        ("a", b"caf\xe9", "not UTF-8 \\(byte 3\\)"),
        ("b", b" \n---\n \n", "is empty"),
        ("c", None, "cannot be read: Is a directory|cannot be read: Permission denied"),
    ):
        (tmp_path / name).mkdir() if data is None else (tmp_path / name).write_bytes(data)
        with pytest.raises(OptionError, match=said):
            sample_texts(tmp_path / name)
    (tmp_path / "d").write_bytes("é".encode() * (3 << 20))  # cut within a character
    assert set(sample_texts(tmp_path / "d")[0]) == {"é"}


def test_what_keeps_it_from_being_checked_is_said(tmp_path: Path, sample: Path) -> None:
    scripted = Engine({"scripted": ScriptedBackend()}, caching=False)
    try:
        report = scripted.convert("pocket", tmp_path / "a", quantize=4, text=sample)
        assert report.quality is None
        assert "scripted backend does not tell how likely" in report.unchecked
    finally:
        scripted.close()
    assert (tmp_path / "a" / "config.json").is_file()


def test_a_disk_without_room_for_the_check(
    engine: Engine, tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_500_000))
    small = tmp_path / "long.txt"
    small.write_text(TEXT * 20)
    report = engine.convert("pocket", tmp_path / "m", quantize=4, text=small)
    assert "The check needs" in report.unchecked
    assert "MB of disk for a while, and 2.5 MB is free" in report.unchecked
    assert engine.models() == []
    with pytest.raises(ConversionError, match="needs"):
        engine.convert("pocket", tmp_path / "whole")
    assert sorted(os.listdir(tmp_path)) == ["long.txt", "m"]


@pytest.mark.parametrize("error", [RuntimeError("no kernel\nfor it"), MemoryError("none"), OSError("it is full")])
def test_what_another_library_raises_in_the_check_keeps_the_report(
    engine: Engine, tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*args: object) -> None:
        raise error

    monkeypatch.setattr("mlxnb.runtime.conversion.check", fails)
    report = engine.convert("pocket", tmp_path / "m", quantize=4, text=sample)
    assert report.quality is None
    assert report.unchecked == f"{type(error).__name__}: {' '.join(str(error).split())}"
    assert report.bytes == (tmp_path / "m" / "model.safetensors").stat().st_size


@pytest.mark.parametrize("kind", [RuntimeError, OptionError])
def test_what_progress_raises_in_the_check_is_raised(
    engine: Engine, tmp_path: Path, sample: Path, kind: type[Exception]
) -> None:
    def progress(done: int, total: int, doing: str) -> None:
        if (tmp_path / "m").exists():
            raise kind("mine", "Go on.")

    with pytest.raises(kind, match="mine"):
        engine.convert("pocket", tmp_path / "m", quantize=4, text=sample, progress=progress)
    assert (tmp_path / "m" / "config.json").is_file()


def test_an_interrupt_in_the_check_keeps_the_model(engine: Engine, tmp_path: Path, sample: Path) -> None:
    def stop(done: int, total: int, doing: str) -> None:
        if doing.startswith("checking") and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.convert("pocket", tmp_path / "m", quantize=4, text=sample, progress=stop)
    assert os.listdir(tmp_path) == ["m"]
    assert engine.models() == []


def test_others_are_answered_while_it_is_written(engine: Engine, tmp_path: Path) -> None:
    engine.load("pocket")
    answers = []

    def ask(done: int, total: int, doing: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        if done == 3:
            answers.append(engine.generate("Where is sqrt?", max_tokens=5).tokens)

    engine.convert("pocket", tmp_path / "m", check=False, progress=ask)
    assert len(answers) == 1


def test_other_tokens_are_left_out_and_that_is_said(
    engine: Engine, tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, first = conversion_check._ids, []

    def cuts_otherwise(loaded, text):  # type: ignore[no-untyped-def]
        first.append(loaded.info.name)
        found = ids(loaded, text)
        return found[1:] if loaded.info.name != first[0] and "print" in text else found

    monkeypatch.setattr(conversion_check, "_ids", cuts_otherwise)
    report = engine.convert("pocket", tmp_path / "m", text=sample)
    assert report.quality is not None
    assert report.quality.texts == 1
    assert report.quality.notes == ("1 of 2 texts left out: the two tokenizers cut them into different tokens",)
    assert report.quality.divergence.kl_mean == 0
    monkeypatch.setattr(conversion_check, "_ids", lambda loaded, text: [len(loaded.info.name), 5, 6])
    report = engine.convert("pocket", tmp_path / "n", text=sample)
    assert "The two tokenizers cut every sample text into different tokens" in report.unchecked


def test_without_a_text_ours_are_read(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = sample_texts()
    assert len(texts) > 10
    assert 4000 < sum(map(len, texts)) < 10_000
    monkeypatch.setattr(conversion_check, "MOST", 200)
    shutil.copytree(pocket.path(), tmp_path / "another")
    report = engine.convert(str(tmp_path / "another"), tmp_path / "m", quantize=8)
    assert report.quality is not None
    assert report.quality.divergence.tokens == 200


def test_the_pocket_model_is_asked_what_it_knows(engine: Engine, tmp_path: Path) -> None:
    report = engine.convert("pocket", tmp_path / "m", quantize=4, backend="torch")
    assert report.quality is not None
    found = report.quality.divergence
    assert 1 < found.source_perplexity < 1.1  # right answers alone: of the questions it foresees little
    assert 1 < found.perplexity < 1.1
    assert 0 < found.kl_mean < 0.1
    assert 500 < found.tokens < 2048


def test_what_is_given_is_not_judged() -> None:
    rows = list(conversion_check._rows([list(range(9)), list(range(20))], 8, [5, 11]))
    assert [(row.ids[0], len(row.ids), row.skip) for row in rows] == [(0, 8, 4), (0, 8, 10), (8, 8, 2), (16, 4, 0)]


def test_rows_are_bounded() -> None:
    texts = [list(range(3)), [], [7], list(range(5000))]
    rows = list(conversion_check._rows(texts, 512))
    assert [row.ids for row in rows][:2] == [[0, 1, 2], list(range(512))]
    assert sum(len(row.ids) - 1 for row in rows) == conversion_check.MOST
    assert [row.before for row in rows][:3] == [0, 2, 513]
    assert {row.text for row in rows} == {0, 3}
