"""An engine whose only backend is the server's, with a patience that suits a test, and questions to an endpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from mlxnb.backends.server import ServerBackend
from mlxnb.backends.server_models import known
from mlxnb.backends.server_stream import Patience
from mlxnb.result import Result
from mlxnb.runtime import Engine
from tests.endpoint import Endpoint

SHORT = Patience(connect=2.0, first=1.0, between=1.0, end=0.3, tries=3, pause=0.01, longest=1.0)
LONG = Patience(connect=2.0, first=60.0, between=60.0)
VARIABLES = ("MLXNB_SERVER_URL", "LLM_CHAT_API_URL", "MLXNB_API_KEY", "OPENAI_API_KEY", "OLLAMA_HOST", "OLLAMA_API_KEY")


@contextlib.contextmanager
def engine_for(patience: Patience = SHORT) -> Iterator[Engine]:
    engine = Engine({"server": ServerBackend(patience)}, caching=False)
    try:
        yield engine
    finally:
        engine.close()


def ask(endpoint: Endpoint, prompt: Any = "Say it", **options: Any) -> Result:
    """The answer of an endpoint."""
    with engine_for(options.pop("patience", SHORT)) as engine:
        return engine.generate(prompt, model=endpoint.url, backend="server", **options)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the person who runs the tests leads anywhere."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    known.forget()
