"""Loading: engines side by side load one after the other, and a chain of backends is walked to its end."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlxnb.decision import Rejected
from mlxnb.errors import ModelNotFoundError, ModelTooLargeError, OptionError, UnsupportedModelError
from mlxnb.models import ModelSource
from mlxnb.runtime import Engine, loaded
from tests.scripted import ScriptedBackend

AT_ONCE = """
import threading
from mlxnb.runtime import Engine

engines = [Engine(caching=False) for _ in range(2)]
ready, loaded = threading.Barrier(2), []

def load(engine):
    ready.wait()
    loaded.append(engine.load("pocket", "torch").backend)

threads = [threading.Thread(target=load, args=[engine]) for engine in engines]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for engine in engines:
    engine.close()
print(*loaded)
"""


def test_two_engines_that_are_the_first_to_need_torch():
    """In a process of its own, since what breaks is the first import of transformers."""
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "torch torch\n", "")


def test_a_load_waits_for_another_engines():
    first_is_in, second_came_in = threading.Event(), threading.Event()
    met = []

    class First(ScriptedBackend):
        def load(self, source, *precision):
            first_is_in.set()
            met.append(second_came_in.wait(0.3))
            return super().load(source, *precision)

    class Second(ScriptedBackend):
        def load(self, source, *precision):
            second_came_in.set()
            return super().load(source, *precision)

    first, second = Engine({"scripted": First()}, caching=False), Engine({"scripted": Second()}, caching=False)
    thread = threading.Thread(target=first.load, args=["pocket"])
    thread.start()
    first_is_in.wait()
    second.load("pocket")
    thread.join()
    assert met == [False]
    assert second_came_in.is_set()
    first.close()
    second.close()


def test_a_load_that_fails_leaves_the_way_free():
    class Broken(ScriptedBackend):
        def load(self, source, *precision):
            raise ZeroDivisionError

    engine = Engine({"broken": Broken(), "scripted": ScriptedBackend()}, caching=False)
    engine.backends["broken"].name = "broken"
    with pytest.raises(UnsupportedModelError, match="broken could not load pocket"):
        engine.load("pocket", "broken")
    assert engine.load("pocket", "scripted").backend == "scripted"
    engine.close()


def test_a_load_that_finds_no_memory_says_so():
    broken = ScriptedBackend(name="broken", fails={})
    broken.load = lambda *given: (_ for _ in ()).throw(MemoryError("none left"))
    engine = Engine({"broken": broken}, caching=False)
    with pytest.raises(ModelTooLargeError, match=r"Memory ran out while broken loaded pocket.*--quantize int8"):
        engine.load("pocket", "broken")
    engine.close()


class Elsewhere(ScriptedBackend):
    """Has no model of any name."""

    name = "elsewhere"

    def find(self, name, here, named):
        return Rejected(self.name, f"{name} is not listed here" + (" by name" if named else ""), "pull it")


def test_a_chain_goes_on_where_a_backend_has_no_such_model():
    engine = Engine({"elsewhere": Elsewhere(), "scripted": ScriptedBackend()}, caching=False)
    result = engine.generate("Hi", backend="elsewhere, scripted")
    assert [(r.subject, r.reason) for r in result.provenance.passed_over] == [
        ("elsewhere", "pocket is not listed here by name.")
    ]
    assert result.text == "Hello, world."
    with pytest.raises(UnsupportedModelError, match=r"not listed here by name\. Try to pull it"):
        engine.generate("Hi", backend="elsewhere")
    with pytest.raises(OptionError, match="no backend 'x'"):
        engine.generate("Hi", backend="scripted,x")
    engine.close()


def test_a_model_of_a_server_needs_no_folder():
    class Server(ScriptedBackend):
        name = "server"

        def find(self, name, here, named):
            with pytest.raises(ModelNotFoundError, match="names a model of a server"):
                here()
            return ModelSource(name, Path(), "server", format="served", url="http://x", served_as="m")

    engine = Engine({"server": Server(), "scripted": ScriptedBackend()}, caching=False)
    assert engine.generate("Hi", model="ollama:m:1b", backend="server").text == "Hello, world."
    assert engine.generate("Hi", model="ollama:m:1b").text == "Hello, world."
    engine.close()


def test_a_model_that_is_nowhere_is_looked_for_once(monkeypatch):
    looked = []

    def nowhere(name, **options):
        looked.append(name)
        raise ModelNotFoundError("nowhere")

    monkeypatch.setattr(loaded, "resolve", nowhere)
    second = ScriptedBackend()
    second.name = "second"
    engine = Engine({"scripted": ScriptedBackend(), "second": second}, caching=False)
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        engine.generate("Hi", model="org/name")
    assert looked == ["org/name"]
    engine.close()


class Exporting(ScriptedBackend):
    """Has the model for those who name it only."""

    def find(self, name, here, named):
        return here() if named else Rejected(self.name, "auto exports none", "take --backend exporting")


def test_auto_does_not_take_what_it_would_not_have_made():
    first, second = Exporting(["first"], name="exporting"), ScriptedBackend(["second"])
    engine = Engine({"exporting": first, "scripted": second}, caching=False)
    assert engine.generate("Hi").text == "second"
    assert engine.generate("Hi", backend="exporting").text == "first"
    again = engine.generate("Hi")
    assert again.text == "second"
    assert again.provenance.passed_over == again.provenance.notes == ()
    assert engine.generate("Hi", backend="exporting").text == "first"
    assert engine.generate("Hi", backend="exporting,scripted").text == "first"
    engine.close()
