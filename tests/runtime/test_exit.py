"""A process that used the engine ends quietly, closed or not, in the middle of something or not."""

import subprocess
import sys

import pytest

CODE = """
import mlxnb
engine = mlxnb.engine()
engine.generate("Where is sqrt?", backend={backend!r}, max_tokens=5)
{last}
"""
ENDINGS = {
    "simply": "",
    "closed": "engine.close()",
    "running": "job = engine.stream('go on', raw=True, backend={backend!r}, max_tokens=900); next(iter(job))",
    "unloaded": "engine.unload('pocket')",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_exit(backend, ending):
    pytest.importorskip({"mlx": "mlx.core", "torch": "torch"}[backend])
    code = CODE.format(backend=backend, last=ENDINGS[ending].format(backend=backend))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
