"""What happened to the requests themselves: prompts computed again, waits, text work, failures, empty answers."""

from __future__ import annotations

from ...backends.memory import memory_ran_out
from ...hardware import human_bytes
from ...render.numbers import count, duration, plural
from ..report import Report, Run, Stress
from ..report.beside import HOLDS, LEAKS, PAGE
from .roofline import rows_of
from .rules_remedies import kept_prefixes, varied, without_draft
from .rules_seen import Limit, Said, Seen, middle, missing

MISSES = Limit("cache-misses", "prompt tokens that were reused", 0.2)
TEXT = Limit("tokenizer-bound", "time before prefill, of the time to the first token", 0.25)
QUEUE = Limit("queueing", "wait for other requests, of the time from end to end", 0.5)
FAILED = Limit("failures", "requests without an answer", 1, "requests")
EMPTY = Limit("empty-answers", "tokens of an answer", 2, "tokens")
DRAFT = Limit("poor-draft", "accepted of the tokens that the draft proposed", 0.3)
LEAK = Limit("leak", "bytes that each request left behind", PAGE, "bytes")

CONVERSATION = "multi-turn"  # the scenario whose prompts begin alike
NOTICED = 0.02  # seconds before prefill that are worth a word
PROPOSED = 50  # guesses that an acceptance rests on


def cache_misses(seen: Seen) -> Said:
    """A conversation was computed again at each turn."""
    if seen.case.scenario != CONVERSATION:
        return missing(MISSES.rule, "conversation of several turns")
    later = [run for run in seen.runs if run.turn != 0 and not run.clients]  # the first has nothing to find
    turns = [run.timings for run in later if run.timings is not None]
    prompts = sum(t.prompt_tokens for t in turns)
    if len(turns) < 2 or not prompts:
        return missing(MISSES.rule, "count of reused tokens")
    reused = sum(t.reused_tokens for t in turns)
    if reused / prompts >= MISSES.threshold:
        return None
    off = varied(seen, "cache") == "off"
    return MISSES.crossed(
        seen.index,
        reused / prompts,
        f"of {count(prompts)} prompt tokens in {plural(len(turns), 'turn')}, {count(reused)} were reused",
        "the cache was off" if off else "no KV state of an earlier turn was found again, or its beginning had changed",
        "Ask with --cache auto and leave what was said before as it is: what follows a change is computed anew.",
        kept_prefixes(seen),
    )


def tokenizing(seen: Seen) -> Said:
    """The prompt took long to become tokens: as that was timed by itself, or by what lies before the prefill of
    requests that waited for no other.
    """
    ttft, alone = seen.summary.ttft, seen.case.concurrency == 1
    took = seen.case.tokenising
    if took is None and alone:
        took = middle(map(_before, seen.runs))
    if took is None or ttft is None or not seen.mine:
        return missing(TEXT.rule, "time before prefill of requests that came one by one")
    whole = took + ttft.median
    if took < NOTICED or took / whole < TEXT.threshold:
        return None
    return TEXT.crossed(
        seen.index,
        took / whole,
        f"{duration(took)} of {duration(whole)} to the first token lie before prefill",
        "the chat template and the tokenizer take long beside so fast a prefill",
        "Take a model with a fast tokenizer (a tokenizer.json), or put the prompts in a batch.",
    )


def _before(run: Run) -> float | None:
    if run.own is not None or run.timings is None:
        return run.own
    return run.timings.queue_time


def queueing(seen: Seen) -> Said:
    """Requests waited for each other longer than they were worked on. In a batch they wait for one another's prompts
    only, which is little of a whole answer.
    """
    wait, total = seen.summary.queue, seen.summary.total
    if seen.case.concurrency < 2 or wait is None or total is None or total.median <= 0:
        return missing(QUEUE.rule, "requests that came together")
    if wait.median / total.median < QUEUE.threshold:
        return None
    alone = rows_of(seen.case, seen.runs) == 1
    cause = "they are computed one after the other" if alone else "their prompts are computed one after the other"
    better = "take a backend that computes them in one batch (mlx or torch)" if alone else "give them shorter prompts"
    return QUEUE.crossed(
        seen.index,
        wait.median / total.median,
        f"with {seen.case.concurrency} at once, {duration(wait.median)} of {duration(total.median)} from end to end "
        "are a wait for others",
        cause,
        f"Ask fewer at once, or {better}.",
    )


def failures(seen: Seen) -> Said:
    """Requests failed, or the case could not run at all."""
    summary, errors = seen.summary, [run.error for run in seen.report.runs if run.case == seen.index and run.error]
    if seen.case.error is None and not summary.n + summary.failed:
        return missing(FAILED.rule, "request")
    failed = max(summary.failed, int(seen.case.error is not None))
    if not failed:
        return None
    why = (seen.case.error or (errors[0] if errors else "nothing says why")).rstrip(".")
    short = "memory ran out" in why.lower() or memory_ran_out(RuntimeError(why))
    cause = "memory ran out" if short else "the first of them says it"
    remedy = (
        "Take fewer bits, a smaller model or a shorter prompt." if short else "Do what the message says, and repeat."
    )
    of = f"{failed} of {summary.n + summary.failed} requests failed" if summary.failed else "the case could not run"
    return FAILED.crossed(seen.index, failed, f"{of}: {why}", cause, remedy)


def empty_answers(seen: Seen) -> Said:
    """Answers were so short that nothing can be said of decode."""
    tokens = seen.summary.generation_tokens
    if tokens is None:
        return missing(EMPTY.rule, "answer")
    if tokens.median >= EMPTY.threshold:
        return None
    return EMPTY.crossed(
        seen.index,
        tokens.median,
        f"half of {plural(tokens.n, 'answer')} have {plural(int(tokens.median), 'token')} or fewer, so that TPOT is "
        "undefined",
        "the model ended its turn at once, or max_tokens lets it say no more",
        "Raise max_tokens, or give a prompt that the model answers at some length.",
    )


def poor_draft(seen: Seen) -> Said:
    """Most of what a draft guessed was thrown away."""
    acceptance = seen.summary.acceptance
    proposed = sum(run.proposed or 0 for run in seen.runs)
    if acceptance is None or proposed < PROPOSED:
        return missing(DRAFT.rule, f"{PROPOSED} guesses of a draft")
    if acceptance >= DRAFT.threshold:
        return None
    return DRAFT.crossed(
        seen.index,
        acceptance,
        f"{acceptance:.0%} of {count(proposed)} guesses were accepted",
        "the draft guesses wrong so often that verifying costs more than it saves",
        "Leave out the draft, or take fewer draft_tokens or a draft of the same family.",
        without_draft(seen),
    )


def leak(report: Report) -> Said:
    """A stress found memory that did not come back."""
    worst: Stress | None = max(report.stress, key=lambda each: (each.verdict == LEAKS, each.growth), default=None)
    if worst is None or not {each.verdict for each in report.stress} & {LEAKS, HOLDS}:
        return missing(LEAK.rule, "stress" if worst is None else f"stress that tells: {worst.verdict}")
    if worst.verdict != LEAKS:
        return None
    return LEAK.crossed(
        worst.case,
        worst.growth,
        f"{plural(worst.requests, 'request')} left {human_bytes(worst.growth)} behind each "
        f"({human_bytes(worst.low)} – {human_bytes(worst.high)}), with a confidence of {worst.confidence:.1%}",
        "something keeps what an answer needed after it is done",
        "Unload the model now and then, and report this with the versions above.",
    )
