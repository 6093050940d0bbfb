"""Results of every kind, for hypothesis."""

from hypothesis import strategies as st

from mlxnb.decision import Absent, Accepted, Rejected
from mlxnb.request import MAX_SEED, Sampling
from mlxnb.result import Provenance, Result, Speculation, Timings, TokenLogprob
from mlxnb.tools import ToolCall

TEXT = st.text(st.characters(), max_size=20)  # lone surrogates too: a detokeniser may leave one
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**40)
MAYBE = lambda strategy: st.none() | strategy  # noqa: E731

samplings = st.builds(
    Sampling,
    temperature=st.floats(0, 10),
    top_p=st.floats(0, 1),
    top_k=st.integers(0, 10**6),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0.01, 10),
    seed=MAYBE(st.integers(0, MAX_SEED)),
)
timings = st.builds(
    Timings,
    accepted=NUMBERS,
    start=NUMBERS,
    token_times=st.lists(NUMBERS, max_size=5).map(tuple),
    prompt_tokens=COUNTS,
    reused_tokens=COUNTS,
    load_time=NUMBERS,
    thinking_tokens=COUNTS,
    first_visible=MAYBE(NUMBERS),
)
refusals = st.builds(Rejected, TEXT, TEXT, TEXT) | st.builds(Absent, TEXT, TEXT, TEXT)
provenances = st.builds(
    Provenance,
    model=TEXT,
    source=TEXT,
    revision=MAYBE(TEXT),
    backend=TEXT,
    backend_version=TEXT,
    device=TEXT,
    dtype=TEXT,
    quantization=MAYBE(TEXT),
    sampling=samplings,
    max_tokens=COUNTS,
    stop=st.lists(TEXT, max_size=3).map(tuple),
    prompt_tokens=COUNTS,
    reused_tokens=COUNTS,
    context_length=MAYBE(COUNTS),
    attention=TEXT,
    attention_calls=st.lists(st.tuples(TEXT, COUNTS), max_size=2).map(tuple),
    kv_bits=MAYBE(st.sampled_from([4, 8])),
    kv_group_size=MAYBE(COUNTS),
    passed_over=st.lists(refusals, max_size=3).map(tuple),
    notes=st.lists(TEXT, max_size=3).map(tuple),
)
beside = st.builds(TokenLogprob, token=MAYBE(st.integers(0, 9)), text=st.text(max_size=3), logprob=st.floats(-99, 0))
told = st.builds(TokenLogprob, st.integers(0, 9), st.text(max_size=3), st.floats(-99, 0), st.tuples(beside))
speculations = st.builds(
    Speculation,
    draft=TEXT,
    steps=COUNTS,
    proposed=COUNTS,
    accepted=COUNTS,
    positions=st.lists(st.tuples(COUNTS, COUNTS), max_size=3).map(tuple),
)
tool_calls = st.builds(
    ToolCall,
    name=TEXT,
    arguments=st.dictionaries(TEXT, TEXT | COUNTS | st.none() | st.lists(NUMBERS, max_size=2), max_size=2),
    id=TEXT,
    output=MAYBE(TEXT),
    error=TEXT,
)
results = st.builds(
    Result,
    text=TEXT,
    tokens=st.lists(COUNTS, max_size=8),
    finish_reason=st.sampled_from(["stop", "length"]),
    timings=timings,
    provenance=provenances,
    thinking=TEXT,
    peak_memory=MAYBE(COUNTS),
    speculation=MAYBE(speculations),
    tool_calls=st.lists(tool_calls, max_size=2).map(tuple),
    logprobs=MAYBE(st.lists(told, max_size=3).map(tuple)),
)

decisions = refusals | st.builds(Accepted, TEXT, TEXT)


def result(text="an answer", model="m", **changes):
    """One plain Result."""
    provenance = Provenance(
        model=model, source="path", revision=None, backend="torch", backend_version="torch 2", device="cpu",
        dtype="float32", quantization=None, sampling=Sampling(), max_tokens=8, stop=(), prompt_tokens=3,
        reused_tokens=0, context_length=64, attention="sdpa",
    )  # fmt: skip
    times = Timings(accepted=1.0, start=1.5, token_times=(2.0, 2.25), prompt_tokens=3, first_visible=2.0, load_time=0.5)
    return Result(**{"text": text, "tokens": [1, 2], "finish_reason": "stop", "timings": times,
                     "provenance": provenance, "peak_memory": 5, **changes})  # fmt: skip
