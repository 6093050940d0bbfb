"""Models whose KV states are fed by hand, each loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

import mlxnb.pocket
from tests.backends.fed import Fed, load
from tests.backends.hybrids import HYBRIDS, make_hybrid
from tests.tiny import Maker

Load = Callable[[str, str], Fed]


@pytest.fixture(scope="module")
def fed(checkpoint: Maker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """Loads a model on a backend, both by name."""
    torch = pytest.importorskip("torch")  # makes the tiny checkpoints

    @cache
    def loaded(backend: str, name: str) -> Fed:
        pytest.importorskip({"mlx": "mlx_lm", "torch": "torch"}[backend])
        if name.startswith("pocket"):
            path = mlxnb.pocket.path()
        else:
            path = make_hybrid(name, tmp_path_factory.mktemp(name)) if name in HYBRIDS else checkpoint(name)
        made = load(backend, name, path)
        torch.set_num_threads(1)  # two threads on busy cores wait for one another
        return made

    before = torch.get_num_threads()
    yield loaded
    torch.set_num_threads(before)
