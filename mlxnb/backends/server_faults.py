"""What can go wrong between a server and us: whether asking again may help, and what a person reads."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time

from ..errors import MlxnbError, PromptTooLongError, ServerError
from .server_key import how_to_give, scrubbed

AGAIN = (408, 429, 500, 502, 503, 504)
WORDS = 300  # characters of a server's own message


class Fault(Exception):
    """A try that failed. `again`: another may do better, in `wait` seconds where the server says so.

    `tries` is how often the server was asked.
    """

    def __init__(
        self,
        message: str,
        remedy: str = "",
        *,
        again: bool = False,
        wait: float | None = None,
        short: str = "",
        kind: type[MlxnbError] = ServerError,
    ) -> None:
        super().__init__(message)
        self.again = again
        self.wait = wait
        self.short = short or message.rstrip(".")
        self.tries = 1
        self._remedy, self._kind = remedy, kind

    @property
    def error(self) -> MlxnbError:
        """What the request ends with."""
        asked = f" It was asked {self.tries} times." if self.tries > 1 else ""
        return self._kind(f"{self}{asked}", self._remedy)


class Refusal(Exception):
    """An answer that is no stream, from within the client. `text` is the beginning of its body."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(status)
        self.status, self.headers, self.text = status, headers, text


def refused(refusal: Refusal, where: str, model: str, key: str) -> Fault:
    """The Fault of an HTTP answer that is no stream. `where` is the server as messages name it, `key` what it got."""
    status, had_key = refusal.status, bool(key)
    said, code = _said(refusal.text, key)
    words = f": {said.rstrip('.')}" if said else ""
    if status < 300:
        kind = refusal.headers.get("content-type", "").partition(";")[0].strip() or "no content type"
        remedy = "Check the address: most end in /v1."
        return Fault(f"{where} answered with {plain(kind, key)} where a stream of events was expected{words}.", remedy)
    if status < 400:
        to = plain(refusal.headers.get("location", ""), key) or "nowhere"
        message = f"{where} redirects to {to}, which is not followed: it would take the prompt and the key elsewhere."
        return Fault(message, "Give that address if you trust it.")
    if status in (401, 403):
        how = "check the key" if had_key else how_to_give(where)
        remedy = f"{how[0].upper()}{how[1:]}."
        return Fault(
            f"{where} refused {'the key' if had_key else 'to answer without a key'} ({status}){words}.", remedy
        )
    if status == 404:
        return Fault(
            f"{where} knows no {model!r}, or no such call (404){words}.", "Check the model's name and the address."
        )
    if status in (400, 413, 422) and _is_too_long(code, said):
        return Fault(f"{where} has no room for the prompt ({status}){words}.", "Shorten it.", kind=PromptTooLongError)
    if status == 429 and code != "insufficient_quota":
        wait = _retry_after(refusal.headers.get("retry-after", ""))
        later = f" It asks to wait for {wait:,.0f} s." if wait else ""
        message = f"{where} has too much to do (429){words}.{later}"
        return Fault(message, "Try again later.", again=True, wait=wait, short="busy (429)")
    if status in AGAIN and status != 429:
        wait = _retry_after(refusal.headers.get("retry-after", ""))
        remedy = "Look at the server's own log."
        return Fault(f"{where} failed ({status}){words}.", remedy, again=True, wait=wait, short=f"failed ({status})")
    return Fault(f"{where} refused the request ({status}){words}.", "Change what it names, or ask another backend.")


def in_stream(event: str, where: str, key: str) -> Fault:
    """The Fault of an event, in JSON, by which a server tells of an error."""
    said, code = _said(event, key)
    words = f": {said.rstrip('.')}" if said else ""
    if _is_too_long(code, said):
        return Fault(f"{where} has no room for the prompt{words}.", "Shorten it.", kind=PromptTooLongError)
    return Fault(f"{where} reported an error{words}.", "Look at the server's own log.")


def silent(where: str, seconds: float, begun: bool) -> Fault:
    """Nothing came for too long. The server may still be at work on it, so that it is not asked once more."""
    until = "went silent" if begun else "did not begin to answer"
    return Fault(f"{where} {until} for {seconds:g} s.", "See what it is doing, or ask for less.")


def unreachable(where: str, cause: BaseException) -> Fault:
    """The connection could not be made, or broke."""
    reason = _deepest(cause)
    text = plain(_in_the_systems_words(reason)).rstrip(".") or type(reason).__name__
    if isinstance(reason, OSError) and not isinstance(reason, ConnectionResetError | BrokenPipeError):
        message, short = f"{where} could not be reached: {text}.", "not reached"
    else:
        message, short = f"{where} broke the connection off: {text}.", "broke off"
    return Fault(message, "See whether it still runs.", again=True, short=short)


def cut_off(where: str, begun: bool) -> Fault:
    """The stream ended before the answer did."""
    # llama-cpp-python's server 0.3 does that with a prompt longer than its context, and writes the reason into its log.
    remedy = "Ask again." if begun else "Look at the server's own log: some end so where the prompt is too long."
    return Fault(f"{where} ended the stream before the answer was whole.", remedy, again=True, short="cut off")


def malformed(where: str, what: str) -> Fault:
    """What came is no stream of an OpenAI-compatible server."""
    return Fault(f"{where} sent {what}.", "Check that it is an OpenAI-compatible server.")


def _said(text: str, key: str) -> tuple[str, str]:
    """A server's own words, on one line, and its code for the error, from the body of its answer."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return ("", "") if text.lstrip()[:1] == "<" else (plain(text, key), "")
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return plain(str(error), key), ""
    words = error.get("message") or error.get("detail") or error.get("error") or ""
    code = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
    return plain(words if isinstance(words, str) else json.dumps(words), key), code if isinstance(code, str) else ""


def plain(text: str, key: str = "") -> str:
    """A server's words as a message can hold them: on one line, without control characters, the key, and not too long.
    The key goes first: half of one, at the end of what is cut, would not be found.
    """
    words = "".join(char if char.isprintable() else " " for char in " ".join(scrubbed(text, key).split()))
    return words if len(words) <= WORDS else f"{words[: WORDS - 3]}..."


def _is_too_long(code: str, said: str) -> bool:
    """OpenAI's and vLLM's code, llama-server's type, or what the others write."""
    if code in ("context_length_exceeded", "exceed_context_size_error"):
        return True
    low = said.lower()
    return "context" in low and any(
        word in low for word in ("exceed", "too long", "maximum context", "too many tokens")
    )


def _retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header, which is a number of them or a date."""
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time(), 0.0)
    except (TypeError, ValueError):
        return None


def _in_the_systems_words(reason: BaseException) -> str:
    """asyncio puts words of its own into a system's error, with the address in them."""
    if isinstance(reason, asyncio.TimeoutError | TimeoutError):
        return "connecting took too long"
    if isinstance(reason, OSError) and (reason.errno or 0) > 0 and not isinstance(reason, ssl.SSLError):
        return os.strerror(reason.errno or 0)
    return str(getattr(reason, "strerror", None) or reason)


def _deepest(err: BaseException) -> BaseException:
    """What the system said, under what the libraries made of it."""
    while (under := err.__cause__ or err.__context__) is not None:
        err = under
    return err
