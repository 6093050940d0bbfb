"""Look at the running Python: the object behind a name, its kind, its signature and its docstring's first sentence."""

import importlib
import inspect
import re
from typing import Any

from .wording import bare

WIDTH = 62  # a longer signature is cut after a whole parameter, so that it fits one line of a notebook
VAGUE = ("(*args, **kwargs)", "(*args, **kwds)", "(*args)", "(*args, **kw)", "(**kwargs)")
IMPERATIVES = """
Add Append Apply Assert Attempt Break Build Call Capture Change Check Close Collect Combine Compare Compile Compress
Compute Convert Copy Count Create Decode Decompress Decorate Delete Deserialize Determine Disable Dump Duplicate
Emulate Enable Encode Escape Evaluate Execute Exit Expand Extract Fill Find Fork Format Freeze Generate Get Guess
Import Insert Install Iterate Join Kill Lex List Log Look Make Mark Merge Move Multiply Open Override Parse Pause
Perform Pop Prepare Prepend Print Profile Push Put Quote Raise Read Recursively Register Reload Remove Repeat
Replace Reset Resolve Retrieve Return Reverse Round Run Schedule Send Serialize Set Shuffle Skip Split Start Stop
Store Suspend Swap Terminate Test Transform Translate Truncate Turn Unescape Unpack Unregister Update Validate
Verify Wait Walk Wrap Write Yield Zip
"""
VERBS = frozenset(IMPERATIVES.split())


def find(module: str, short: str) -> Any:
    """Return the object behind a name; `module` may also be a class, such as `str` or `pathlib.Path`."""
    return getattr(home(module), short)


def home(module: str) -> Any:
    """Import a module, or the class that stands in a module's place."""
    if hasattr(importlib.import_module("builtins"), module):
        return getattr(importlib.import_module("builtins"), module)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        outer, _, inner = module.rpartition(".")
        return getattr(importlib.import_module(outer), inner)


def kind_of(module: str, short: str) -> str:
    """Say whether a name is an exception, class, function, method or attribute."""
    thing = find(module, short)
    if inspect.isclass(thing):
        return "exception" if issubclass(thing, BaseException) else "class"
    if inspect.isclass(home(module)):
        return "method" if callable(thing) else "attribute"
    return "function" if callable(thing) else "attribute"


def parameters(thing: Any) -> list[str] | None:
    """Render each parameter of a call without annotations, or return None where Python cannot tell.

    The slash of positional-only parameters is left out and an unprintable default becomes `...`.
    """
    try:
        found = list(inspect.signature(thing).parameters.values())
    except (ValueError, TypeError):
        return None
    if found and found[0].name in ("self", "cls"):
        found = found[1:]
    out: list[str] = []
    starred = False
    for p in found:
        if p.kind is p.KEYWORD_ONLY and not starred:
            out.append("*")
        starred = starred or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        out.append(render(p))
    return out


def render(p: inspect.Parameter) -> str:
    """Render one parameter with its default."""
    star = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
    if p.default is p.empty:
        return star + p.name
    shown = oct(p.default) if p.name == "mode" and isinstance(p.default, int) else repr(p.default)
    return f"{p.name}={'...' if shown.startswith('<') or ' at 0x' in shown else shown}"


def signature_of(module: str, short: str, by_hand: str | None) -> str:
    """Return the signature that Python reports; the table's own serves only where Python has none or a vague one."""
    if kind_of(module, short) in ("exception", "attribute"):
        return ""
    found = parameters(find(module, short))
    if found is None or (by_hand and f"({', '.join(found)})" in VAGUE):
        return by_hand or documented_call(module, short) or "(...)"
    return joined(found)


def documented_call(module: str, short: str) -> str | None:
    """Return the call that opens the docstring of a function written in C: "sleep(seconds)" gives "(seconds)"."""
    match = re.match(rf"{short}(\([^()]*\))", inspect.getdoc(find(module, short)) or "")
    return match[1] if match else None


def joined(shown: list[str]) -> str:
    """Write parameters as a signature of at most WIDTH characters, with an ellipsis for those that do not fit."""
    whole = f"({', '.join(shown)})"
    kept = list(shown)
    while len(whole) > WIDTH and len(kept) > 1:
        kept.pop()
        if kept[-1] == "*":
            kept.pop()
        whole = f"({', '.join([*kept, '...'])})"
    return whole


def sentence_of(module: str, short: str) -> str | None:
    """Return the docstring's first sentence where it is short, plain and begins with a verb."""
    text = inspect.getdoc(find(module, short)) or ""
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    paragraph = next((p for p in paragraphs if not p.startswith(short + "(")), "")
    first = bare(re.split(r"\.( |$)|: | \(", paragraph)[0].strip().replace("``", "").replace("`", ""))
    fits = 12 <= len(first) <= 75 and first.isascii() and first.split(" ")[0] in VERBS
    return first if fits else None
