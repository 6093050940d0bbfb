"""The small print under an answer: what ran, how fast, how it ended; and the whole of it as text."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..decision import Absent
from .numbers import MISSING, count, duration, plural, rate, size
from .text import RULE, one_row

if TYPE_CHECKING:
    from ..decision import Rejected
    from ..result import Provenance, Result, Speculation, Timings

SEPARATOR = " · "

# How the note of a conversation begins whose context cut the answer.
FULL = "context full: "
UNKEPT = "the conversation stays as it was"  # the same of one whose turn came to nothing


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a footer. `reason` makes it a warning, with the reason in its tooltip."""

    text: str
    reason: str = ""

    def html(self) -> str:
        kind = "mlxnb-warn" if self.reason else "mlxnb-figure"
        title = f' title="{html.escape(self.reason)}"' if self.reason else ""
        return f'<span class="{kind}"{title}>{html.escape(self.text)}</span>'


def model_label(name: str, adapter: str = "") -> str:
    """How a model, and an adapter on it, is named wherever its text is shown; nobody shall take the pocket model for a
    large one.
    """
    own = "pocket model" if name == "pocket" else one_row(name)
    return f"{own} + {one_row(adapter)}" if adapter else own


def footer_text(result: Result) -> str:
    """The footer as one line of text."""
    return SEPARATOR.join(item.text for item in items(result))


def footer_html(result: Result) -> str:
    """The footer as HTML, with everything that `describe` says in its tooltip."""
    return line(items(result, thought=True), describe(result))


def line(entries: list[Item], title: str = "") -> str:
    """A footer line of `entries`."""
    tooltip = f' title="{html.escape(title)}"' if title else ""
    return f'<div class="mlxnb-footer"{tooltip}>{SEPARATOR.join(entry.html() for entry in entries)}</div>'


def thought_text(result: Result) -> str:
    """`Thought for 3.1 s (212 tokens)`, or nothing if the model did not think."""
    t = result.timings
    if not result.thinking or not t.token_times:
        return "Thought" if result.thinking else ""
    end = t.first_visible if t.first_visible is not None else t.token_times[-1]
    tokens = f" ({plural(t.thinking_tokens, 'token')})" if t.thinking_tokens else ""
    return f"Thought for {duration(end - t.token_times[0])}{tokens}"


def items(result: Result, thought: bool = False) -> list[Item]:
    """The footer's entries in order; a figure that is undefined is left out, never zero. With `thought` they tell of
    thinking too, which stands on a line of its own in the plain twin.
    """
    p, t = result.provenance, result.timings
    where = one_row(f"{p.backend} {p.device}").strip()  # nowhere, if it was stopped before it had a backend
    texts = [model_label(p.model, p.adapter), *filter(None, [where]), plural(result.generation_tokens, "token")]
    if thought and t.thinking_time is not None and not result.cached:
        texts.append(f"thought {plural(t.thinking_tokens, 'token')} in {duration(t.thinking_time)}")
    if t.decode_rate and not result.cached:
        texts.append(rate(t.decode_rate))
    if t.ttft is not None:
        loading = f" ({duration(t.load_time)} loading)" if t.load_time > 0 else ""
        texts.append(f"first token {duration(t.ttft)}{loading}")
    if p.reused_tokens and not result.cached:
        texts.append(f"reused {count(p.reused_tokens)} of {count(p.prompt_tokens)}")
    if result.speculation is not None and not result.cached:
        texts += _guessed(result.speculation)
    return [*map(Item, texts), *map(Item, _steps(result)), *_ending(result)]


def _steps(result: Result) -> list[str]:
    """What a turn of a conversation took beside its last generation, which every other figure is about."""
    calls = [plural(len(result.tool_calls), "tool call")] if result.tool_calls else []
    tokens = sum(each.generation_tokens for each in result.before)
    return [*calls, *([f"{plural(tokens, 'token')} in {_generations(result)} before"] if result.before else [])]


def _generations(result: Result) -> str:
    return plural(len(result.before), "generation")


def _ending(result: Result) -> list[Item]:
    p = result.provenance
    if result.finish_reason == "interrupted":
        ends = [Item("interrupted", "Generation was stopped before the model ended its turn.")]
    elif result.finish_reason == "length":
        full = next((note for note in p.notes if note.startswith(FULL)), "")
        ends = [Item("cut", f"The answer was cut at {plural(result.generation_tokens, 'token')}: {_more(result)}.")]
        ends += [Item("context full", one_row(full))] if full else []
    else:
        ends = [Item(result.finish_reason)]
    if result.cached:
        took = f", which took {duration(result.original.total)}" if result.original and result.original.total else ""
        ends.append(Item("cached", f"Found again; it was generated earlier{took}. --cache off computes it anew."))
    why = one_row(next((note for note in p.notes if note.startswith("overflow: ")), ""))
    if why:
        ends.append(Item(f"{plural(result.left_out, 'turn')} left out" if result.left_out else "turns left out", why))
    ends += [Item("no turn", one_row(note)) for note in p.notes if note.startswith(UNKEPT)]
    refused = [rejected for rejected in p.passed_over if not isinstance(rejected, Absent)]
    if refused:
        ends.append(Item("fallback", "\n".join(one_row(str(rejected)) for rejected in refused)))
    return ends


def _more(result: Result) -> str:
    full = result.generation_tokens < result.provenance.max_tokens
    return "the model's context is full" if full else "raise max_tokens for the rest"


def describe(result: Result) -> str:
    """Everything that is known about how an answer came to be, one `name  value` line each."""
    rows = [*_origin(result.provenance), *_settings(result.provenance), *_figures(result)]
    rows += [(_kind(rejected), str(rejected)) for rejected in result.provenance.passed_over]
    rows += [("note", note) for note in result.provenance.notes]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {one_row(value)}" for name, value in rows)


def _kind(rejected: Rejected) -> str:
    return "not installed" if isinstance(rejected, Absent) else "passed over"


def backend_words(name: str, version: str) -> str:
    """A backend with its versions, which begin with its name where a library of that name computes."""
    return version if version.split(" ")[0] == name else f"{name} {version}".rstrip()


def _origin(p: Provenance) -> list[tuple[str, str]]:
    return [
        ("model", model_label(p.model)),
        *([("adapter", p.adapter)] if p.adapter else []),
        ("source", f"{p.source} @ {p.revision}" if p.revision else p.source),
        ("backend", backend_words(p.backend, p.backend_version)),
        ("device", p.device),
        ("dtype", f"{p.dtype}, {p.quantization}" if p.quantization else p.dtype),
        ("attention", p.attention or MISSING),
        *([("KV cache", f"{p.kv_bits} bit, group {p.kv_group_size}")] if p.kv_bits else []),
        ("context", plural(p.context_length, "token") if p.context_length else MISSING),
    ]


def _settings(p: Provenance) -> list[tuple[str, str]]:
    s = p.sampling
    sampling = f"temperature {s.temperature:g}, top_p {s.top_p:g}, top_k {s.top_k}, min_p {s.min_p:g}"
    return [
        ("sampling", f"{sampling}, repetition_penalty {s.repetition_penalty:g}"),
        ("seed", MISSING if s.seed is None else str(s.seed)),
        ("limits", f"max_tokens {p.max_tokens}" + (f", stop {', '.join(map(repr, p.stop))}" if p.stop else "")),
    ]


def _figures(result: Result) -> list[tuple[str, str]]:
    p, t = result.provenance, result.timings
    thinking = f", {count(t.thinking_tokens)} of them thinking" if t.thinking_tokens else ""
    rows = [
        ("prompt", f"{plural(p.prompt_tokens, 'token')}, {count(p.reused_tokens)} reused"),
        ("answer", f"{plural(result.generation_tokens, 'token')}{thinking}, ended by {result.finish_reason}"),
        ("waited", f"queue {duration(t.queue_time)}, loading {duration(t.load_time)}"),
        *_speeds(t),
        *_speculation(result.speculation),
    ]
    rows += [("tool call", f"{call.written()} gave {call.answer}"[:500]) for call in result.tool_calls]
    if result.before:
        seconds = sum(each.timings.total or 0 for each in result.before)
        tokens = sum(each.generation_tokens for each in result.before)
        rows.append(("before", f"{_generations(result)}, {plural(tokens, 'token')}, {duration(seconds)}"))
    if result.peak_memory is not None:
        rows.append(("peak memory", size(result.peak_memory)))
    return rows


def _speeds(t: Timings) -> list[tuple[str, str]]:
    figures = {
        "first token": duration(t.ttft) if t.ttft is not None else None,
        "prefill": rate(t.prefill_rate) if t.prefill_rate else None,
        "decode": rate(t.decode_rate) if t.decode_rate else None,
        "end to end": duration(t.total) if t.total is not None else None,
    }
    return [(name, figure) for name, figure in figures.items() if figure]


def _guessed(s: Speculation) -> list[str]:
    if s.draft == "schema":
        return [f"{plural(s.accepted, 'token')} given by the schema"] if s.accepted else []
    return [f"accepted {count(s.accepted)} of {count(s.proposed)} drafted"]


def _speculation(s: Speculation | None) -> list[tuple[str, str]]:
    if s is None:
        return []
    share = f" ({s.acceptance:.0%})" if s.acceptance is not None else ""
    pace = f", {s.tokens_per_step:.2f} tokens a step" if s.tokens_per_step is not None else ""
    return [("draft", f"{s.draft}, {count(s.accepted)} of {plural(s.proposed, 'token')} accepted{share}{pace}")]


def footed(body: str, *lines: str) -> str:
    """The plain twin of an output: a body, a rule, and the lines under it."""
    return "\n".join([body, RULE, *filter(None, lines)])
