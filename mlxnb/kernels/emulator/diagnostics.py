"""Puts a C++ compiler's complaints in terms of the kernel's own lines."""

from __future__ import annotations

import re

from ...errors import KernelCompileError
from .signature import HEADER, SOURCE, KernelText, plain_lines
from .sites import own_line
from .tokens import RefusedError, Tokens

_ERROR = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<words>.*)$")
# What led to an error elsewhere: g++ says it before the error, clang++ after it.
_LED = rf"({re.escape(SOURCE)}|{re.escape(HEADER)}):(\d+):\d+:\s+"
_BEFORE, _AFTER = re.compile(_LED + "required"), re.compile(_LED + "note: in instantiation")
_REMEDY = "The words are the C++ compiler's; Metal's own may put it otherwise."
_SHOWN = 3


def compile_error(output: str, text: KernelText) -> KernelCompileError:
    """The compiler's first errors, each with its line of the source or header."""
    errors: list[tuple[str, int | None, str]] = []
    led: tuple[str, int] | None = None
    for line in output.split("\n"):
        if before := _BEFORE.search(line):
            led = before.group(1), own_line(int(before.group(2)))
        elif (after := _AFTER.search(line)) and errors and errors[-1][0] not in (SOURCE, HEADER):
            errors[-1] = after.group(1), own_line(int(after.group(2))), errors[-1][2]
        elif error := _ERROR.match(line):
            file, number = error.group("file"), own_line(int(error.group("line")))
            if file not in (SOURCE, HEADER):
                file, number = led or _nearest(file, number, text)
            found = file, number, _plain(error.group("words"))
            if found not in errors:
                errors.append(found)
    if not errors:
        words = next((line for line in output.split("\n") if "error" in line or "undefined" in line), output[:200])
        errors = [("", None, words.strip())]
    return _error(errors, text)


def refusal(error: RefusedError, text: KernelText) -> KernelCompileError:
    """An error that was found before the compiler saw the text."""
    if error.file not in (SOURCE, HEADER):  # the brace round the body is left over where the body lacks one of its own
        try:
            Tokens(f'# 1 "{SOURCE}"\n{plain_lines(text.source)}')
        except RefusedError as inner:
            error = inner
    return _error([(*_nearest(error.file, error.line, text), str(error))], text)


def _error(errors: list[tuple[str, int | None, str]], text: KernelText) -> KernelCompileError:
    own = [error for error in errors if error[0] == SOURCE] or errors
    lines = [_shown(*error, text) for error in errors[:_SHOWN]]
    if len(errors) > _SHOWN:
        lines.append(f"… and {len(errors) - _SHOWN} more.")
    line = own[0][1] if own[0][0] == SOURCE else None
    return KernelCompileError("The kernel does not compile.\n" + "\n".join(lines) + "\n", _REMEDY, line)


def _shown(file: str, number: int | None, words: str, text: KernelText) -> str:
    if number is None:
        return words
    part = {SOURCE: text.source, HEADER: text.header}.get(file)
    if part is None:
        return f"{file}, line {number}: {words}"
    quoted = quote(part, number)
    where = f"Line {number}" if file == SOURCE else f"Header, line {number}"
    return f"{where}: {words}" + (f"\n{number:>5} | {quoted}" if quoted else "")


def quote(part: str, number: int) -> str:
    """Line `number` of a text, counted from 1; "" where there is none."""
    lines = part.split("\n")
    return lines[number - 1].rstrip() if 0 < number <= len(lines) else ""


def _nearest(file: str, number: int, text: KernelText) -> tuple[str, int]:
    """Where an error is shown: one behind the body's end (a bracket is missing) belongs to the body's last line."""
    if file == "kernel.end":
        return SOURCE, len(text.source.rstrip().split("\n"))
    if file in (SOURCE, HEADER):
        return file, number
    return ("the kernel's signature" if file.startswith("kernel.") else file.rsplit("/", 1)[-1]), number


def _plain(words: str) -> str:
    """Without the emulator's own names."""
    words = words.replace("\u2018", "'").replace("\u2019", "'")
    words = re.sub(r"mlxnb_type_(\w+)", r"threadgroup \1", words)
    return re.sub(r"\bmetal::vec<(\w+), ?(\d)>", r"\1\2", words)
