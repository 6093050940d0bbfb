"""A prompt is fed in the pieces that a request asks for, with the same answer, and it is said where it is not."""

from __future__ import annotations

import pytest

from mlxnb import Request
from mlxnb.errors import OptionError

PROMPT = "one two three four five six seven eight nine ten " * 20


def pieces(engine, **options):
    """How many tokens the torch model was given at each step of a prompt, and the tokens of the answer."""
    given: list[int] = []

    def hook(loaded):
        return loaded.model.register_forward_pre_hook(
            lambda module, args, named: given.append(named["input_ids"].shape[1]), with_kwargs=True
        )

    asked = {"backend": "torch", "cache": "off", "raw": True, "max_tokens": 2, **options}
    placed = engine.call_with("pocket", hook, "torch")
    try:
        result = engine.generate(PROMPT, **asked)
    finally:
        placed.remove()
    assert sum(given) == result.timings.prompt_tokens + 1
    return given, result


@pytest.mark.parametrize("step", [1, 50, 10_000])
def test_torch_feeds_a_prompt_in_pieces_of_the_size_that_is_asked_for(engine, step):
    _, plain = pieces(engine)
    given, result = pieces(engine, prefill_step=step)
    whole, rest = divmod(result.timings.prompt_tokens, step)
    assert given == [*[step] * whole, *([rest] if rest else []), 1]
    assert result.tokens == plain.tokens
    assert result.provenance.notes == plain.provenance.notes


def test_mlx_takes_less_memory_for_smaller_pieces(engine):
    pytest.importorskip("mlx_lm")
    asked = {"backend": "mlx", "cache": "off", "raw": True, "max_tokens": 2}
    small, large = (engine.generate(PROMPT, prefill_step=step, **asked) for step in (16, 400))
    assert small.tokens == large.tokens
    assert small.peak_memory < large.peak_memory


def test_a_batch_feeds_each_prompt_so(engine):
    alone = pieces(engine, prefill_step=64)[1]
    prompts = [PROMPT, PROMPT[:-5]]
    both = engine.batch(prompts, backend="torch", cache="off", raw=True, max_tokens=2, prefill_step=64, progress=False)
    assert both[0].tokens == alone.tokens
    assert not any("prefill_step" in note for result in both for note in result.provenance.notes)


def test_a_prompt_that_must_go_whole_is_said_to(engine, checkpoint):
    asked = {
        "model": str(checkpoint("phi3-longrope")),
        "backend": "torch",
        "raw": True,
        "max_tokens": 2,
        "prefill_step": 4,
    }
    notes = engine.generate("a b c", **asked).provenance.notes
    assert "prefill_step 4 not used: torch feeds this model in one piece, for LongRoPE" in notes
    with pytest.raises(OptionError, match="refill_step 4 not used"):
        engine.generate("a b c", strict=True, **asked)


@pytest.mark.parametrize("step", [0, -1, 2.5, "many"])
def test_what_is_no_number_of_tokens_is_refused(step):
    with pytest.raises(OptionError, match=r"prefill_step is .* whole number of at least 1"):
        Request.of("a", prefill_step=step)
