"""The answers that the model is taught: one short sentence in Markdown, then a block of Python."""

from .facts import TYPES, Fact, Module


def block(code: str) -> str:
    """Fence a piece of Python."""
    return f"\n\n```python\n{code}\n```"


def what(fact: Fact) -> str:
    """Say what a name does."""
    return f"`{fact.name}` {fact.predicate}." + block(fact.call)


def signature(fact: Fact) -> str:
    """Show how a name is called."""
    if fact.kind == "exception":
        return f"`{fact.name}` is an exception, you raise it:" + block(fact.call)
    if fact.kind == "attribute":
        return f"`{fact.name}` is an attribute, it takes no arguments:" + block(fact.name)
    return f"The signature of `{fact.name}` is:" + block(fact.call)


def where(fact: Fact) -> str:
    """Show where a name lives and how it is imported."""
    if fact.module == "builtins":
        return f"`{fact.short}` is built in, you need no import:" + block(fact.call)
    if fact.module in TYPES:
        return f"`{fact.short}` belongs to `{fact.module.rpartition('.')[2]}`:" + block(fact.call)
    return f"`{fact.short}` lives in the `{fact.module}` module:" + block(f"from {fact.module} import {fact.short}")


def which(fact: Fact) -> str:
    """Name what does a job."""
    return f"That is `{fact.name}`:" + block(fact.call)


def example(fact: Fact) -> str:
    """Show an example that was executed, or say that there is none."""
    if fact.example:
        return f"Here is an example of `{fact.name}`:" + block(fact.example)
    return f"I have no example of `{fact.name}`, but you write it like this:" + block(fact.call)


def module(found: Module) -> str:
    """Say what a module is for."""
    return f"The `{found.name}` module {found.about}." + block(f"import {found.name}")


def members(found: Module) -> str:
    """List the first few names of a module."""
    return f"Here are some names from `{found.name}`:\n\n" + "\n".join(f"- `{name}`" for name in found.members)


ABOUT_FACT = {"what": what, "signature": signature, "where": where, "which": which, "example": example}
ABOUT_MODULE = {"module": module, "list": members}
