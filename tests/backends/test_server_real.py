"""The server backend against real servers on loopback, each with the pocket model."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

import mlxnb.pocket
from mlxnb.backends.server import ServerBackend
from mlxnb.backends.server_models import known
from mlxnb.errors import OptionError, ServerError, UnsupportedModelError
from mlxnb.runtime import Engine
from tests.backends.served import nothing_set  # noqa: F401

pytest.importorskip("openai", reason="the server backend needs the openai package")

QUESTIONS = ("What is two plus three?", "Count from one to ten.", "Tell me a story about a fox.")


@pytest.fixture(scope="module")
def mlx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of mlx_lm.server with the pocket model."""
    pytest.importorskip("mlx_lm", reason="mlx-lm is not there for this machine")
    command = ["-m", "mlx_lm", "server", "--model", str(mlxnb.pocket.path()), "--log-level", "WARNING"]
    folder = tmp_path_factory.mktemp("mlx")
    (folder / "hub").mkdir()  # without a cache to list it answers its list with nothing
    yield from served(command, folder)


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama-cpp-python's server with the pocket model in GGUF."""
    pytest.importorskip("llama_cpp.server.app", reason="llama-cpp-python's server is not installed")
    gguf = pytest.importorskip("mlxnb.models.gguf", reason="nothing writes GGUF files yet")
    from mlxnb.models import resolve

    folder = tmp_path_factory.mktemp("llama")
    file = gguf.to_gguf(resolve("pocket"), folder / "pocket.gguf", dtype="float32")
    command = ["-m", "llama_cpp.server", "--model", str(file), "--n_ctx", "512", "--verbose", "False"]
    yield from served(command, folder)


def served(command: list[str], folder: Path) -> Iterator[str]:
    """Run a server until the module's tests are done; its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "log.txt"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=out,
            stderr=out,
            env=environment,
        )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        until = time.monotonic() + 120
        while not answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/models", timeout=5) as response:
            return response.status == 200
    except (URLError, OSError):
        return False


@pytest.fixture
def mine() -> Iterator[Engine]:
    engine = Engine({"server": ServerBackend()}, caching=False)
    yield engine
    engine.close()
    known.forget()


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_mlx_lm_server_says_what_we_say(mlx_server: str, mine: Engine, engine: Engine, question: str):
    ours = engine.generate(question, backend="mlx", max_tokens=40)
    theirs = mine.generate(question, model=mlx_server, max_tokens=40)
    assert theirs.text == ours.text
    assert theirs.finish_reason == ours.finish_reason
    assert theirs.provenance.prompt_tokens == ours.provenance.prompt_tokens
    assert theirs.provenance.device.startswith("mlx_lm.server at 127.0.0.1:")


@pytest.mark.slow
def test_mlx_lm_server_without_a_list(mine: Engine, tmp_path: Path):
    pytest.importorskip("mlx_lm", reason="mlx-lm is not there for this machine")
    command = ["-m", "mlx_lm", "server", "--model", str(mlxnb.pocket.path()), "--log-level", "WARNING"]
    with contextlib.contextmanager(served)(command, tmp_path) as url:
        with pytest.raises(UnsupportedModelError, match="does not say which models it has") as caught:
            mine.generate("Hi", model=url)
        assert caught.value.remedy == f"Try to name one: {url}#default_model."
        assert mine.generate("Hi", model=f"{url}#default_model", max_tokens=2).generation_tokens == 2


@pytest.mark.slow
def test_mlx_lm_server_continues_a_raw_prompt_as_we_do(mlx_server: str, mine: Engine, engine: Engine):
    ours = engine.generate("Once upon a time", backend="mlx", raw=True, max_tokens=30)
    theirs = mine.generate("Once upon a time", model=mlx_server, raw=True, max_tokens=30)
    # It leaves out the space before the first word.
    assert (theirs.text.lstrip(), theirs.finish_reason) == (ours.text.lstrip(), ours.finish_reason)


@pytest.mark.slow
def test_mlx_lm_server_stops_repeats_and_lets_go(mlx_server: str, mine: Engine, held_after: Callable[[int], None]):
    options = {"model": mlx_server, "max_tokens": 40, "temperature": 1.0, "top_k": 40, "min_p": 0.01, "seed": 7}
    first, second = (mine.generate("Tell me a story.", **options) for _ in range(2))
    assert first.text == second.text
    assert first.generation_tokens <= 40
    stop = first.text.split()[2]
    cut = mine.generate("Tell me a story.", **options, stop=stop)
    assert cut.text == first.text.partition(stop)[0]
    assert cut.finish_reason == "stop"
    held_after(1)
    job = mine.stream("Tell me a long story.", model=mlx_server, max_tokens=400)
    next(iter(job))
    job.cancel()
    assert job.result().finish_reason == "interrupted"
    assert mine.generate("Hi", model=mlx_server, max_tokens=2).finish_reason == "length"


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_llama_cpp_pythons_server_says_what_we_say(llama_server: str, mine: Engine, engine: Engine, question: str):
    ours = engine.generate(question, backend="torch", dtype="float32", max_tokens=40)
    theirs = mine.generate(question, model=llama_server, max_tokens=40)
    assert (theirs.text, theirs.finish_reason) == (ours.text, ours.finish_reason)
    assert theirs.provenance.device.startswith("llama-cpp-python at 127.0.0.1:")


@pytest.mark.slow
def test_llama_cpp_pythons_server_stops_repeats_and_lets_go(
    llama_server: str, mine: Engine, engine: Engine, held_after: Callable[[int], None]
):
    ours = engine.generate("A list is", backend="torch", dtype="float32", raw=True, max_tokens=30)
    theirs = mine.generate("A list is", model=llama_server, raw=True, max_tokens=30)
    assert (theirs.text, theirs.finish_reason) == (ours.text, ours.finish_reason)
    options = {"model": llama_server, "max_tokens": 40, "temperature": 1.0, "top_k": 40, "min_p": 0.01, "seed": 7}
    first, second = (mine.generate("Tell me a story.", **options) for _ in range(2))
    assert first.text == second.text
    stop = first.text.split()[2]
    cut = mine.generate("Tell me a story.", **options, stop=stop)
    assert (cut.text, cut.finish_reason) == (first.text.partition(stop)[0], "stop")
    held_after(1)
    job = mine.stream("Tell me a long story.", model=llama_server, max_tokens=400)
    next(iter(job))
    job.cancel()
    assert job.result().finish_reason == "interrupted"
    assert mine.generate("Hi", model=llama_server, max_tokens=2).finish_reason == "length"


@pytest.mark.slow
def test_llama_cpp_pythons_server_says_nothing_of_a_prompt_that_is_too_long(llama_server: str, mine: Engine):
    with pytest.raises(ServerError, match="ended the stream before the answer was whole") as caught:
        mine.generate("fox " * 2000, model=llama_server, max_tokens=5)
    assert "the prompt is too long" in caught.value.remedy


@pytest.mark.slow
def test_llama_cpp_pythons_server_keeps_to_a_schema(llama_server: str, mine: Engine):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "old": {"type": "boolean"}},
        "required": ["name", "old"],
        "additionalProperties": False,
    }
    asked = {"model": llama_server, "max_tokens": 80, "temperature": 1.0, "seed": 4}
    result = mine.generate("Tell me of Rome.", schema=schema, **asked)
    assert sorted(result.parsed) == ["name", "old"]
    assert mine.generate("Is Rome old?", schema=["yes", "no"], **asked).parsed in ("yes", "no")


@pytest.mark.slow
def test_mlx_lm_server_keeps_no_answer_to_a_schema(mlx_server: str, mine: Engine):
    with pytest.raises(OptionError, match=r"mlx_lm\.server keeps no answer to a schema"):
        mine.generate("Hi", model=mlx_server, schema={"type": "object"})
