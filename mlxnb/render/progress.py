"""How far an answer has come, and the words and the thin line that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .numbers import count, plural, size

if TYPE_CHECKING:
    from ..runtime import Job

State = Literal["queued", "loading", "prefill", "generating"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a generation: everything so far, and how far the prompt is computed, in tokens.

    While the model is being fetched, `done` and `total` count the bytes of the download instead. `doing` says what goes
    on beside loading.
    """

    text: str = ""
    thinking: str = ""
    prefill_done: int = 0
    prefill_total: int = 0
    state: State = "generating"
    tokens: int = 0
    doing: str = ""

    @property
    def in_download(self) -> bool:
        """Whether the model is being fetched, with a known size."""
        return self.state == "loading" and self.prefill_total > 0

    @property
    def in_prefill(self) -> bool:
        """Whether the prompt is being computed, with a known length."""
        return not (self.text or self.thinking) and self.state in ("prefill", "generating") and self.prefill_total > 0

    def words(self) -> str:
        """The moment in a word or two."""
        if self.in_download:
            return f"downloading {size(self.prefill_done)} of {size(self.prefill_total)}"
        if self.in_prefill:
            return f"prefill {count(self.prefill_done)} of {plural(self.prefill_total, 'token')}"
        if self.state != "generating":
            return self.doing if self.doing and self.state == "loading" else self.state
        doing = "thinking" if self.thinking and not self.text else "generating"
        return f"{doing}, {plural(self.tokens, 'token')}" if self.tokens else doing

    def line(self) -> str:
        """The rule above the footer: during prefill it fills from the left."""
        if not (self.in_prefill or self.in_download):
            return "<hr>"
        share = 100 * min(1.0, self.prefill_done / self.prefill_total)
        return (
            f'<div class="mlxnb-progress" role="progressbar" aria-label="{self.words()}" aria-valuemin="0"'
            f' aria-valuemax="{self.prefill_total}" aria-valuenow="{self.prefill_done}">'
            f'<div style="width:{share:.1f}%"></div></div>'
        )


def progress_of(job: Job, text: str, thinking: str) -> Progress:
    """How far a job has come; `text` and `thinking` are everything so far."""
    watch = job.watch
    if job.state == "loading":
        return Progress(text, thinking, watch.load_done, watch.load_total, "loading", doing=watch.doing)
    state = job.state if job.state in ("queued", "prefill") else "generating"
    return Progress(text, thinking, watch.prefill_done, watch.prompt_tokens, state, len(watch.token_times))
