"""Engines side by side in one process load their models one after the other."""

import subprocess
import sys
import threading

import pytest

from mlxnb.errors import UnsupportedModelError
from mlxnb.runtime import Engine
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
