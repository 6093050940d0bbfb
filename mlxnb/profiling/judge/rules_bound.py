"""What bounds the speed of a case: memory bandwidth, arithmetic, or what is neither.

The bound is that of the phase that takes most of the time, by the shares of this machine's measured bandwidth (MBU) and
matrix rate (MFU) that it reaches; see METRICS, and Williams, Waterman, Patterson, "Roofline" (CACM 52, 2009).
"""

from __future__ import annotations

from ...render.numbers import duration
from ..model.inside_parts import DETOKENISING
from ..model.inside_parts import OVERHEAD as OVERHEAD_OF_STEP
from ..model.needs import kv_bytes, step_bytes
from ..report.by_part import by_part
from .roofline import rows_of
from .rules_remedies import faster_decode, faster_prefill, less_between, smaller_cache
from .rules_seen import Limit, Said, Seen, missing

MEMORY = Limit("memory-bound", "MBU", 0.6)
CACHE = Limit("kv-bound", "KV share of the bytes that a token reads", 0.5)
COMPUTE = Limit("compute-bound", "MFU", 0.5)
OVERHEAD = Limit("overhead-bound", "the larger of MBU and MFU", 0.3)
OWN = Limit("overhead-bound", "overhead in a decode step", 0.25)
TEXT = Limit("tokenizer-bound", "detokenising in a decode step", 0.1)

# A share beyond this says that the limit was measured too low, as on a busy machine, and nothing of what bounds a case.
BELIEVED = 1.2


def memory_bound(seen: Seen) -> Said:
    """The time goes into reading weights."""
    mbu, mfu = _utilised(seen)
    if seen.phase is None or mbu is None:
        return missing(MEMORY.rule, "MBU, which needs a roofline")
    if max(mbu, mfu or 0.0) > BELIEVED:
        return missing(MEMORY.rule, f"limit to believe: MBU is {mbu:.0%} of it")
    if mbu < MEMORY.threshold or (mfu or 0.0) > mbu or _reads_the_cache(seen):
        return None
    trial = faster_decode(seen) if seen.phase == "decode" else None
    return MEMORY.crossed(
        seen.index,
        mbu,
        f"{seen.phase} takes {_share(seen)} of the time and reads at {mbu:.0%} of the measured bandwidth",
        "each token waits until the weights are read from memory once",
        "Read fewer bytes a token: fewer bits, or several tokens a pass with a draft or a batch.",
        trial,
    )


def kv_bound(seen: Seen) -> Said:
    """The time goes into reading keys and values."""
    mbu, share = seen.utilised("decode")[0], kv_share(seen)
    if seen.phase is None or mbu is None or share is None:
        return missing(CACHE.rule, "MBU of decode with the bytes that a token reads")
    if mbu > BELIEVED:
        return missing(CACHE.rule, f"limit to believe: MBU is {mbu:.0%} of it")
    if seen.phase != "decode" or mbu < MEMORY.threshold or share < CACHE.threshold:
        return None
    return CACHE.crossed(
        seen.index,
        share,
        f"at {mbu:.0%} of the measured bandwidth, {share:.0%} of what a token reads are keys and values",
        "the context is so long that the KV cache is read for longer than the weights",
        "Keep the KV cache in fewer bits, or give a shorter context.",
        smaller_cache(seen),
    )


def compute_bound(seen: Seen) -> Said:
    """The time goes into arithmetic."""
    mbu, mfu = _utilised(seen)
    if seen.phase is None or mfu is None:
        return missing(COMPUTE.rule, "MFU, which needs a roofline")
    if max(mfu, mbu or 0.0) > BELIEVED:
        return missing(COMPUTE.rule, f"limit to believe: MFU is {mfu:.0%} of it")
    if mfu < COMPUTE.threshold or (mbu or 0.0) >= mfu:
        return None
    return COMPUTE.crossed(
        seen.index,
        mfu,
        f"{seen.phase} takes {_share(seen)} of the time and computes at {mfu:.0%} of the measured matrix rate",
        "the matrix units are busy: more bandwidth would change little",
        "Compute less: reuse prompts by the prefix cache, shorten them, or take a faster dtype or a smaller model.",
        faster_prefill(seen),
    )


def overhead_bound(seen: Seen) -> Said:
    """The time goes into what is neither reading nor arithmetic: Python, dispatch, launching kernels."""
    own = part_of_step(seen, OVERHEAD_OF_STEP[0])
    mbu, mfu = _utilised(seen)
    if seen.phase is None or (own is None and (mbu is None or mfu is None)):
        return missing(OVERHEAD.rule, "MBU and MFU, or the time inside a token")
    remedy = "Have more done in one step: a batch, a draft, or a backend with less work between operations."
    trial = less_between(seen)
    # Where the memory or the matrix units are busy all the same, the work between goes on beside them, and it was the
    # waits after each part that brought it to light.
    beside = MEMORY.threshold <= (mbu or 0.0) <= BELIEVED or COMPUTE.threshold <= (mfu or 0.0) <= BELIEVED
    if own is not None and own >= OWN.threshold and seen.phase == "decode" and not beside:
        assert seen.inside is not None
        evidence = f"{own:.0%} of a decode step of {duration(seen.inside.synchronised)} is our own work and dispatch"
        return OWN.crossed(seen.index, own, evidence, "time goes into Python between operations", remedy, trial)
    if mbu is None or mfu is None or max(mbu, mfu) >= OVERHEAD.threshold:
        return None
    evidence = f"{seen.phase} takes {_share(seen)} of the time at an MBU of {mbu:.0%} and an MFU of {mfu:.0%}"
    cause = "neither memory nor arithmetic is busy: time goes into Python and dispatch, or into operations slow here"
    return OVERHEAD.crossed(seen.index, max(mbu, mfu), evidence, cause, remedy, trial)


def detokenising(seen: Seen) -> Said:
    """The time goes into turning tokens into text."""
    share = part_of_step(seen, DETOKENISING[0])
    if share is None:
        return missing(TEXT.rule, "time inside a token")
    if share < TEXT.threshold:
        return None
    assert seen.inside is not None
    return TEXT.crossed(
        seen.index,
        share,
        f"{share:.0%} of a decode step of {duration(seen.inside.synchronised)} goes into detokenising",
        "the tokenizer's decoder is slow beside so small a model",
        "Take a model with a fast tokenizer (a tokenizer.json), or a larger model, whose steps take longer.",
    )


def part_of_step(seen: Seen, part: str) -> float | None:
    """The share of a synchronised decode step that a part took, one of PARTS; None where nobody looked inside."""
    inside = seen.inside
    if inside is None or inside.synchronised <= 0 or not inside.shares:
        return None
    return dict(by_part(inside)).get(part, 0.0) / inside.synchronised


def kv_share(seen: Seen) -> float | None:
    """Keys and values among the bytes that a step reads, 0 to 1."""
    read = bytes_of_step(seen)
    return None if read is None else read[1] / read[0]


def bytes_of_step(seen: Seen) -> tuple[float, float] | None:
    """Bytes that a step reads halfway through the answer, for all requests that share it, and how many of them are keys
    and values; None where the backend does not tell.
    """
    model, context = seen.model, context_of(seen)
    if model is None or context is None:
        return None
    rows = rows_of(seen.case, seen.runs)
    whole, cache = step_bytes(model, context, rows), kv_bytes(model, context)
    return None if not whole or cache is None else (whole, rows * cache)


def context_of(seen: Seen) -> float | None:
    """Tokens of context halfway through the answer, the median over the runs."""
    prompt, tokens = seen.summary.prompt_tokens, seen.summary.generation_tokens
    return None if prompt is None or tokens is None else prompt.median + tokens.median / 2


def _reads_the_cache(seen: Seen) -> bool:
    share = kv_share(seen)
    return seen.phase == "decode" and share is not None and share >= CACHE.threshold


def _utilised(seen: Seen) -> tuple[float | None, float | None]:
    return (None, None) if seen.phase is None else seen.utilised(seen.phase)


def _share(seen: Seen) -> str:
    decoding = seen.decoding or 0.0
    return f"{decoding if seen.phase == 'decode' else 1 - decoding:.0%}"
