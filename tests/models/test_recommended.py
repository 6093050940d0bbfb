"""The catalogue tells the truth about sizes, and what is recommended fits."""

from __future__ import annotations

import json
import re

import pytest

from mlxnb.errors import OptionError
from mlxnb.models.fit import MARGIN_BYTES, cache_bytes
from mlxnb.models.names import is_repository
from mlxnb.models.recommended import CATALOGUE, CLASSES, READING, Known, catalogue, recommend
from mlxnb.models.uses import USES

GB = 10**9
SAID = json.loads(CATALOGUE.read_text(encoding="utf-8"))
MODELS = {model.name: model for model in catalogue()[1]}

# Totals that the repositories' pages state for safetensors, where the repository holds nothing but the language model.
STATED = {
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": 30_532_122_624,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "microsoft/phi-4": 14_659_507_200,
}


@pytest.mark.parametrize("said", SAID["models"], ids=lambda said: said["name"])
def test_parameters_are_those_that_transformers_counts(said: dict) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = dict(said["config"])
    layers, interval = config["num_hidden_layers"], config.pop("full_attention_interval", None)
    if interval:
        kinds = ("full_attention", "linear_attention")
        config["layer_types"] = [kinds[bool((i + 1) % interval)] for i in range(layers)]
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    with torch.device("meta"):
        sizes = {name: p.numel() for name, p in transformers.AutoModelForCausalLM.from_config(made).named_parameters()}
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    looked_up = 0 if config["tie_word_embeddings"] else sum(s for name, s in sizes.items() if "embed_tokens" in name)
    of = config.get("num_experts") or config.get("num_local_experts") or 1
    idle = experts - experts * config.get("num_experts_per_tok", 1) // of
    assert said["parameters"] == sum(sizes.values())
    assert said["active"] == sum(sizes.values()) - looked_up - idle
    if "native" in said:
        assert said["native"]["parameters"] == experts


@pytest.mark.parametrize("name", STATED)
def test_they_are_those_of_the_repository_too(name: str) -> None:
    assert MODELS[name].parameters == STATED[name]


def test_the_names_of_moes_say_their_sizes() -> None:
    """35B-A3B: near what the name says, which rounds, and counts the active ones with or without an embedding."""
    for model in MODELS.values():
        found = re.search(r"(\d+)B-A(\d+)B", model.name)
        if found:
            assert model.parameters == pytest.approx(float(found[1]) * 1e9, rel=0.06), model.name
            assert float(found[2]) * 0.7e9 < model.active < float(found[2]) * 1.25e9, model.name


def test_the_catalogue_is_whole() -> None:
    assert re.fullmatch(r"20\d\d-\d\d", catalogue()[0])
    assert set(SAID["order"]) == set(USES)
    for model in MODELS.values():
        assert is_repository(model.name)
        assert not model.mlx or is_repository(model.mlx)
        assert model.order, f"{model.name} is for nothing"
        assert model.licence
        assert re.fullmatch(r"20\d\d-\d\d", model.released)
        assert model.shape.context >= 8192
        assert 0 < model.active <= model.parameters
    for use, names in SAID["order"].items():
        assert len(set(names)) == len(names), use
        assert set(names) <= set(MODELS), use
    for use in ("chat", "code", "drafting"):
        classes = [MODELS[name].memory_class() for name in SAID["order"][use]]
        assert 8 in classes, f"nothing for {use} on 8 GB"
    everything = {model.memory_class() for model in MODELS.values()}
    assert everything >= set(CLASSES[:5]), "a memory class without a model"


def test_sizes_are_computed() -> None:
    model = MODELS["Qwen/Qwen3-8B"]
    assert model.weights("4-bit") == 8_190_735_360 * 4.5 / 8
    assert model.weights("8-bit") == 8_190_735_360 * 8.5 / 8
    assert cache_bytes(model.shape, 1) == 2 * 36 * 8 * 128 * 2
    embedding = 151_936 * 4096
    assert model.read("4-bit", 100) == pytest.approx((8_190_735_360 - embedding) * 4.5 / 8 + 100 * 147_456)
    oss = MODELS["openai/gpt-oss-20b"]
    assert oss.precisions == ("mxfp4",)
    assert 12.5 * GB < oss.weights("mxfp4") < 14 * GB  # its repository has 13.8 GB of safetensors
    assert oss.read("mxfp4", 0) < oss.weights("mxfp4") / 2


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("free", [1, 4, 8, 16, 32, 64, 96, 200])
def test_what_is_recommended_fits(use: str, free: int) -> None:
    found = recommend(use, free * GB, tokens=8192)
    for each in found:
        assert each.room.state in ("fits", "tight")
        assert each.room.weights == each.model.weights(each.precision)
        assert each.room.weights * 1.1 + MARGIN_BYTES <= free * GB
        assert each.rate is None
    places = [each.model.order[use] for each in found]
    assert places == sorted(places)
    assert found or free < 2
    names = {each.model.name for each in found}
    bigger = {each.model.name for each in recommend(use, free * 2 * GB, tokens=8192)}
    assert names <= bigger


def test_more_bits_where_they_fit() -> None:
    def precision(free: float) -> str:
        [found] = [e for e in recommend("chat", int(free * GB)) if e.model.name == "Qwen/Qwen3-8B"]
        return f"{found.precision} {found.room.state}"

    assert precision(16) == "8-bit fits"
    assert precision(10.6) == "4-bit fits"
    assert precision(6.1) == "4-bit tight"


def test_rates_are_the_roofline_and_slow_models_come_last() -> None:
    bandwidth = 20 * GB
    found = recommend("chat", 200 * GB, bandwidth=bandwidth)
    for each in found:
        assert each.rate == pytest.approx(bandwidth / each.model.read(each.precision, each.room.tokens))
    slow = [each.rate is not None and each.rate < READING for each in found]
    assert slow == sorted(slow)
    assert True in slow
    assert False in slow
    eight = next(each for each in found if each.model.name == "Qwen/Qwen3.5-4B")
    assert eight.precision == "4-bit"  # with 8 bits it would be slower than reading
    fast = recommend("chat", 200 * GB, bandwidth=400 * GB)
    assert next(each for each in fast if each.model.name == "Qwen/Qwen3.5-4B").precision == "8-bit"


def test_a_name_to_fetch() -> None:
    [draft] = [e for e in recommend("drafting", 2 * GB) if e.model.name == "Qwen/Qwen3-0.6B"]
    assert draft.precision == "8-bit"
    assert (draft.name, draft.quantize) == ("Qwen/Qwen3-0.6B", "int8")
    known: Known = MODELS["Qwen/Qwen3-8B"]
    [small] = [e for e in recommend("chat", 8 * GB) if e.model is known]
    assert (small.name, small.quantize) == ("mlx-community/Qwen3-8B-4bit", None)


def test_torch_takes_the_original_and_quantises_it() -> None:
    found = recommend("chat", 20 * GB, mlx=False)
    assert {each.name for each in found} <= set(MODELS)
    assert {each.quantize for each in found} == {"int8", "int4"}
    assert not [each for each in found if each.model.native]
    on_card = recommend("chat", 20 * GB, mlx=False, precisions=("8-bit",))
    assert {each.quantize for each in on_card} == {"int8"}
    assert {each.name for each in on_card} < {each.name for each in found}


def test_a_use_that_is_none() -> None:
    with pytest.raises(OptionError, match=r"no recommendations for 'poetry'. Uses are chat, code, reasoning, drafting"):
        recommend("poetry", GB)
