"""Loading the extension is light: in a fresh process it imports no model library."""

import subprocess
import sys

CODE = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("pass")
shell.run_line_magic("load_ext", "mlxnb")
assert {"generate", "mlxnb", "patch_kernels", "profile_model"} <= set(shell.magics_manager.magics["line"])
assert {"generate", "metal_kernel", "profile_model"} <= set(shell.magics_manager.magics["cell"])
heavy = {"mlx", "mlx_lm", "torch", "transformers", "matplotlib", "ipywidgets", "numpy", "huggingface_hub", "psutil"}
heavy |= {"openai", "ollama", "httpx", "pydantic"}
print("loaded:", *sorted(heavy & set(sys.modules)))
"""


def test_load_ext_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "loaded:"
