"""Read the tables, look each name up in the running Python and execute its example: what comes out are the facts."""

import builtins
import contextlib
import importlib
import io
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from . import introspect
from .wording import predicate, task

tomllib = importlib.import_module("tomllib")  # Python 3.11 and later; the package itself runs on 3.10
TABLES = Path(__file__).parent / "tables"
TYPES = ("str", "list", "dict", "set", "bytes", "int", "float", "pathlib.Path")
LONGEST_RESULT = 60


@dataclass(frozen=True)
class Fact:
    """What is known of one name of the standard library."""

    name: str  # as one writes it: "os.path.join", "str.join", "Path.mkdir", "len"
    short: str
    module: str  # a class stands in for a module where the name is a method: "str", "pathlib.Path"
    kind: str  # function, class, method, attribute or exception
    predicate: str  # "joins two or more path components"
    task: str | None  # "join two or more path components"
    signature: str  # "(a, *p)", empty where nothing is called
    example: str | None = None  # code that was executed, with its result in a comment
    wishes: tuple[str, ...] = ()  # what people say they want to do: "join two paths"
    short_is_unique: bool = False
    predicate_is_unique: bool = False

    @property
    def call(self) -> str:
        """How the name is written where it is used."""
        return f"raise {self.name}" if self.kind == "exception" else self.name + self.signature


@dataclass(frozen=True)
class Module:
    """What is known of one module."""

    name: str
    about: str  # "provides mathematical functions for real numbers"
    members: tuple[str, ...]  # the first few names, as one writes them


@dataclass(frozen=True)
class Library:
    """All the facts that the model is taught."""

    facts: tuple[Fact, ...]
    modules: tuple[Module, ...]


def table(name: str) -> dict[str, Any]:
    """Read one of the TOML tables."""
    read: dict[str, Any] = tomllib.loads((TABLES / f"{name}.toml").read_text(encoding="utf-8"))
    return read


@cache
def library() -> Library:
    """Return every fact about the running Python; takes a second or two."""
    wishes = {k: v.split(" | ") for part in ("data", "system") for k, v in table(f"tasks_{part}")["tasks"].items()}
    examples = table("examples")["examples"]
    facts: list[Fact] = []
    abouts: dict[str, str] = {}
    for path in sorted(TABLES.glob("names_*.toml")):
        for module, section in table(path.stem).items():
            if "about" in section:
                abouts[module] = section["about"]
            entries = {short: {} for short in section.get("documented", "").split()} | section.get("names", {})
            for short, entry in entries.items():
                name = written(module, short)
                if known(module, short):
                    code = entry.get("run") or examples.get(name)
                    facts.append(fact(module, short, entry, run(module, code) if code else None, wishes.get(name, [])))
    facts = distinct(facts)
    by_use = sorted(facts, key=lambda f: (not f.wishes, not f.example))  # what people ask for comes first
    members = {m: tuple(f.name for f in by_use if f.module == m) for m in abouts}
    modules = [Module(m, about, members[m][:4]) for m, about in abouts.items() if members[m]]
    return Library(tuple(facts), tuple(modules))


def known(module: str, short: str) -> bool:
    """Say whether the running Python has the name: the tables may name what a newer or older one has."""
    try:
        introspect.find(module, short)
    except (ImportError, AttributeError):
        return False
    return True


def fact(module: str, short: str, entry: dict[str, str], example: str | None, wishes: list[str]) -> Fact:
    """Make the fact of one name from the table's entry and from Python itself."""
    name = written(module, short)
    kind = introspect.kind_of(module, short)
    sentence = entry.get("does") or introspect.sentence_of(module, short)
    if "is" in entry:
        says, todo = f"is {entry['is']}", None
    elif sentence:
        says, todo = predicate(sentence), task(sentence)
    else:
        raise ValueError(f"{name}: its docstring has no plain first sentence, give one in the table")
    if kind == "class" and short.islower() and todo:
        kind = "function"  # itertools.chain is a class, but nobody calls it so
    signature = introspect.signature_of(module, short, entry.get("call"))
    return Fact(name, short, module, kind, says, todo, signature, example, tuple(wishes))


def written(module: str, short: str) -> str:
    """Return the name as one writes it in code."""
    if module == "builtins":
        return short
    return f"{'Path' if module == 'pathlib.Path' else module}.{short}"


def importing(module: str) -> str | None:
    """Return the import that an example needs, None for what is built in."""
    if module == "pathlib.Path":
        return "from pathlib import Path"
    return None if hasattr(builtins, module) or module == "builtins" else f"import {module}"


def run(module: str, code: str) -> str:
    """Execute an example and return its code with the value that Python gave to its last line."""
    *before, last = code.split("\n")
    before = [line for line in (importing(module), *before) if line]
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec("\n".join(before), names)
        value = eval(last, names)
    shown = "" if value is None else f"  # {value!r}"
    if len(shown) > LONGEST_RESULT:
        raise ValueError(f"{code}: a result of {len(shown)} characters is too long for an example")
    return "\n".join([*before, last + shown])


def distinct(facts: list[Fact]) -> list[Fact]:
    """Drop facts that say the same within a module, and mark which short names and predicates are unique."""
    said = Counter((f.module, f.predicate) for f in facts)
    facts = [f for f in facts if said[f.module, f.predicate] == 1]
    shorts = Counter(f.short for f in facts) + Counter({f.module for f in facts})
    says = Counter(f.predicate for f in facts)
    return [
        Fact(
            **{k: v for k, v in vars(f).items() if not k.endswith("_unique")},
            short_is_unique=shorts[f.short] == 1 and len(f.short) > 2,
            predicate_is_unique=says[f.predicate] == 1,
        )
        for f in facts
    ]
