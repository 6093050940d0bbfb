"""The number of threads follows what was seen, and never changes an answer."""

import pytest

pytest.importorskip("torch")

from mlxnb.backends.torch_threads import MEASURED_BELOW, Threads
from mlxnb.request import Precision


def test_the_quicker_one_is_taken_and_the_choice_follows_what_is_seen():
    threads = Threads({1: 0.003, 4: 0.002})
    assert threads.best == 4
    threads.saw(4, 0.2)
    assert threads.best == 1
    threads.saw(1, 0.5)
    assert threads.best == 4


def test_a_large_model_takes_all_unmeasured():
    assert Threads.measure(None, MEASURED_BELOW, 4).best == 4
    assert Threads.measure(None, 5, 1).best == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_threads_do_not_change_the_tokens(engine, dtype):
    engine.load("pocket", backend="torch", dtype=dtype)
    loaded = engine._models.get("pocket", "torch", Precision(dtype))
    answers = []
    for count in (1, 2):
        loaded.model._threads = Threads({count: 0.0})
        answers.append(engine.generate("Which functions are in os.path?", backend="torch", dtype=dtype).tokens)
    assert answers[0] == answers[1]
