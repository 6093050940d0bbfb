"""Makes of an answer what its schema says that it is."""

from __future__ import annotations

from dataclasses import replace

from ..errors import GenerationError, in_words
from ..request import Request
from ..result import Result

REMEDY = "`.partial` of the error holds the answer as it is."


def parsed(result: Result, request: Request) -> Result:
    """A Result with what its text says by the request's schema; as it is where there is none, or where it was cut.

    Raises:
        GenerationError: the answer is whole and does not keep to the schema, or the schema's class failed to take it;
            `partial` is the Result.
    """
    if request.schema is None or result.finish_reason == "interrupted":
        return result
    if result.finish_reason == "length":
        note = "schema: the answer was cut at its token limit, so that nothing is parsed: raise max_tokens"
        kept = result.provenance.notes
        notes = kept if note in kept else (*kept, note)
        return replace(result, provenance=replace(result.provenance, notes=notes))
    try:
        return replace(result, value=request.schema.parse(result.text))
    except ValueError as err:
        reason = str(err).rstrip(".")
        raise GenerationError(f"The answer does not keep to its schema: {reason}.", REMEDY, result) from None
    except Exception as err:  # the schema's class is a person's own code, and may raise anything
        what = getattr(request.schema.type, "__name__", "its schema")
        raise GenerationError(f"{what} failed to take the answer: {in_words(err)}.", REMEDY, result) from err
