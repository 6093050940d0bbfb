"""What only Ollama's own API can do: list, show, fetch, give memory back. The server backend does the answering.

https://docs.ollama.com/api, by Ollama's own client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import BackendMissingError, DownloadError, ModelNotFoundError, ServerError
from .server_address import Address
from .server_faults import plain
from .server_key import key_for
from .server_models import known, ollama_place

ANSWERS = 10.0  # seconds until an answer
FETCHES = 120.0  # seconds without progress, after which fetching has failed

# Hears of bytes done and in all; what it raises stops the fetching.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model that Ollama has. `size` is that of its files, in bytes; None and empty is what it does not tell."""

    name: str
    size: int
    family: str = ""
    parameters: str = ""
    quantization: str = ""
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OllamaRunning:
    """A model in Ollama's memory: bytes in all and on a GPU, its context in tokens, and when it goes, in ISO format."""

    name: str
    memory: int
    on_gpu: int
    context_length: int | None = None
    until: str = ""


def models(address: Address | None = None) -> list[OllamaModel]:
    """The models that the Ollama at an address has; without one, the Ollama of this machine or of OLLAMA_HOST.

    Raises:
        ServerError: it does not answer.
        BackendMissingError: its client is not installed.
    """
    with _client(address=address) as client:
        return [_model(str(one.model), int(one.size or 0), one.details) for one in client.list().models]


def show(name: str) -> OllamaModel:
    """What Ollama knows of a model; `context_length` is the longest that it was trained for.

    Raises:
        ModelNotFoundError: Ollama does not have it.
        ServerError: it does not answer.
    """
    with _client(name) as client:
        told = client.show(name)
    context = next((v for k, v in (told.modelinfo or {}).items() if k.endswith(".context_length")), None)
    made = _model(name, 0, told.details)
    return OllamaModel(
        name=made.name,
        size=made.size,
        family=made.family,
        parameters=made.parameters,
        quantization=made.quantization,
        context_length=context if isinstance(context, int) else None,
        capabilities=tuple(map(str, told.capabilities or ())),
    )


def running(address: Address | None = None) -> list[OllamaRunning]:
    """The models in Ollama's memory; see `models`.

    Raises:
        ServerError: it does not answer.
    """
    with _client(address=address) as client:
        return [
            OllamaRunning(
                name=str(one.model),
                memory=int(one.size or 0),
                on_gpu=int(one.size_vram or 0),
                context_length=getattr(one, "context_length", None),
                until=one.expires_at.isoformat() if one.expires_at else "",
            )
            for one in client.ps().models
        ]


def unload(name: str) -> None:
    """Have Ollama give the memory of a model back; one that is not loaded stays so.

    Raises:
        ModelNotFoundError: Ollama does not have it.
        ServerError: it does not answer.
    """
    with _client(name) as client:
        client.generate(model=name, keep_alive=0)


def pull(name: str, progress: Progress | None = None) -> None:
    """Have Ollama fetch a model. One that was stopped halfway goes on from there the next time.

    Raises:
        ModelNotFoundError: there is none of that name.
        DownloadError: fetching failed, or nothing came for two minutes.
        ServerError: Ollama does not answer.
    """
    done: dict[str, tuple[int, int]] = {}
    with _client(name, FETCHES, fetching=True) as client:
        for step in client.pull(name, stream=True):
            if step.digest and step.total:
                done[step.digest] = int(step.completed or 0), int(step.total)
                if progress is not None:
                    progress(sum(one for one, _ in done.values()), sum(whole for _, whole in done.values()))
    known.forget()  # it lists one more


@contextmanager
def _client(
    name: str = "", seconds: float = ANSWERS, fetching: bool = False, address: Address | None = None
) -> Iterator[Any]:
    """Ollama's client, with its errors as ours."""
    try:
        import httpx
        import ollama
    except ImportError:
        raise BackendMissingError("Ollama's client is not installed.", "Try pip install 'mlxnb[server]'.") from None
    address = address or ollama_place().address
    client = ollama.Client(
        address.root,
        timeout=httpx.Timeout(seconds, connect=5.0),
        trust_env=not address.loopback,
        follow_redirects=False,
        auth=_auth(address),
    )
    where = f"Ollama at {address.shown}"
    try:
        yield client
    except ollama.ResponseError as err:
        raise _refused(err, name, where, fetching) from None
    except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout):
        raise ServerError(f"{where} does not answer.", "Start it, or set OLLAMA_HOST to its address.") from None
    except httpx.HTTPError as err:
        kind = DownloadError if fetching else ServerError
        raise kind(f"{where} broke off: {type(err).__name__}.", "Ask again; what was fetched is kept.") from None
    except (ValueError, TypeError, AttributeError) as err:  # its answer has another form than its client expects
        raise ServerError(f"{where} answered what its client does not understand.", "Update both.") from err
    finally:
        client.close()


def _auth(address: Address) -> Callable[[Any], Any] | None:
    """Puts the right key into a request, or none: the client would send OLLAMA_API_KEY, which belongs to one's own
    Ollama, to any.
    """
    secret = key_for(address)
    if not secret and address.origin == ollama_place().address.origin:
        return None

    def sign(request: Any) -> Any:
        request.headers.pop("authorization", None)
        if secret:
            request.headers["authorization"] = f"Bearer {secret}"
        return request

    return sign


def _refused(err: Any, name: str, where: str, fetching: bool) -> Exception:
    said = plain(str(err.error)).rstrip(".")
    missing = err.status_code == 404 or "not found" in said.lower() or "file does not exist" in said.lower()
    if missing and name:
        remedy = "See https://ollama.com/library for the names." if fetching else f"Fetch it: ollama pull {name}."
        return ModelNotFoundError(f"{where} knows no {name!r}: {said}.", remedy)
    if fetching:
        return DownloadError(f"{where} could not fetch {name}: {said}.", "Ask again; what was fetched is kept.")
    return ServerError(f"{where} refused: {said}.", "Look at Ollama's own log.")


def _model(name: str, size: int, details: Any) -> OllamaModel:
    return OllamaModel(
        name=name,
        size=size,
        family=str(getattr(details, "family", None) or ""),
        parameters=str(getattr(details, "parameter_size", None) or ""),
        quantization=str(getattr(details, "quantization_level", None) or ""),
    )
