"""The server backend: models that some other program runs, behind an OpenAI-compatible address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..decision import Absent, Accepted, Decision, Rejected
from ..errors import ServerError
from ..request import AS_STORED, Precision, Request
from ..result import Chunk
from .base import Cancelled, ModelInfo, Watch, no_adapter
from .server_address import parse
from .server_answer import Answer
from .server_body import body_of
from .server_details import details
from .server_faults import Fault
from .server_find import find
from .server_key import key_for
from .server_models import SUBJECT, Server, known
from .server_stream import Line, Patience

if TYPE_CHECKING:
    from ..models import Checkpoint, ModelSource


class ServerBackend:
    """Models of LM Studio, Ollama, llama-server, vLLM, mlx_lm.server, or whatever else speaks like OpenAI."""

    name = SUBJECT

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()

    def available(self) -> Decision:
        """See Backend.available. Which servers answer is asked in `find`: a name can lead to any."""
        if find_spec("openai") is None:
            return Absent(self.name, "openai is not installed", "pip install 'mlxnb[server]'")
        return Accepted(self.name, f"openai {version('openai')}")

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
        """See Backend.find."""
        return find(name, named)

    def load(self, source: ModelSource, precision: Precision = AS_STORED) -> ServerModel:
        """See Backend.load. Nothing is loaded here: the server may do so with the first request."""
        no_adapter(self.name, source, precision)
        address = parse(source.url)
        server = known.look(address, True)
        if isinstance(server, Rejected):
            raise ServerError(f"{server.reason[:1].upper()}{server.reason[1:]}.", f"Try to {server.remedy}.")
        line = Line(address, key_for(address), self._patience)
        return ServerModel(line, server, source, _info(server, source, precision))

    def memory_free(self) -> int | None:
        """See Backend.memory_free."""
        return None

    def smaller_way(self, checkpoint: Checkpoint, precision: Precision) -> Decision:
        """See Backend.smaller_way."""
        return Rejected(self.name, "a server loads its models itself")

    def close(self) -> None:
        """See Backend.close. A later engine looks anew."""
        known.forget()


class ServerModel:
    """A LoadedModel that answers from afar: a Chunk for each piece of text that arrives, without a token's id."""

    def __init__(self, line: Line, server: Server, source: ModelSource, info: ModelInfo) -> None:
        self.info = info
        self._line = line
        self._server = server
        self._model = source.served_as

    def stream(self, request: Request, watch: Watch) -> Iterator[Chunk]:
        """See LoadedModel.stream."""
        body = body_of(request, self._model, self._server.traits, watch)
        answer = Answer(request, watch, self._server.address.shown)
        # A person may set the key, or take it back, when the model is long loaded.
        self._line = self._line.with_key(key_for(self._server.address))
        watch.begin(0)  # the server counts them, and tells at the end
        try:
            yield from self._answered(request, body, answer, watch)
        except Cancelled:
            watch.finish_reason = "interrupted"
        except Fault as fault:  # under which lie a client's own errors, which know the key
            raise fault.error from None
        last = answer.finish()
        if last is not None:
            yield last

    def _answered(self, request: Request, body: dict[str, Any], answer: Answer, watch: Watch) -> Iterator[Chunk]:
        call = "/completions" if request.raw else "/chat/completions"
        with closing(self._line.events(call, body, watch, answer.ended)) as events:
            for event in events:
                chunk = answer.feed(event)
                if chunk is not None:
                    yield chunk
                if answer.over():
                    break

    def close(self) -> None:
        """Close the connection."""
        self._line.close()


def _info(server: Server, source: ModelSource, precision: Precision) -> ModelInfo:
    told = details(server, source.served_as)
    label = server.traits.label
    untaken = server.traits.untaken
    notes = [source.note] if source.note else []
    if untaken:
        notes.append(f"{label}'s own defaults hold for {', '.join(untaken)}")
    if key_for(server.address) and server.address.scheme == "http" and not server.address.loopback:
        notes.append(f"the key goes to {server.address.shown} unencrypted: its address begins with http")
    plain = ModelInfo(
        name=source.name,
        source=source.kind,
        revision=None,
        backend=SUBJECT,
        backend_version=f"openai {version('openai')}",
        device=server.label,
        dtype="as served",
        quantization=told.quantization,
        parameters=0,
        memory=0,
        context_length=told.context,
        attention="",
        notes=tuple(notes),
    )
    return _refusing(plain, precision)


def _refusing(plain: ModelInfo, precision: Precision) -> ModelInfo:
    """The info as it is for a precision, which no server is told."""
    asked = [value for value in (precision.dtype, precision.quantize) if value]
    refused = tuple(Rejected(value, "a server loads its models in its own precision") for value in asked)
    said = tuple(f"{r.subject} not used: {r.reason}" for r in refused)
    info = replace(plain, refused=refused, notes=(*plain.notes, *said))
    return replace(info, unasked=_refusing(plain, replace(precision, quantize=None))) if precision.quantize else info
