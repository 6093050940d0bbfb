"""What `%load_ext mlxnb` brings: the magics, their defaults and their tab completion."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.magic import Magics

    from .defaults import MLXNB

# What takes the extension out of each shell that has it, by the shell's id.
_loaded: dict[int, ExitStack] = {}


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register everything with `shell`. A second call changes nothing, and keeps conversations and defaults."""
    if id(shell) in _loaded:
        return
    from ..config import forget_kernel
    from . import complete, lone_line, question
    from .commands import CommandMagics
    from .defaults import MLXNB
    from .generate import GenerateMagics
    from .history import History
    from .metal_kernel import MetalMagics
    from .patch_kernels import KernelMagics
    from .profile_model import ProfileMagics
    from .shown import Shown

    defaults, shown, history = MLXNB(parent=shell), Shown(shell), History()
    magics = (
        GenerateMagics(shell, defaults, shown, history),
        CommandMagics(shell, defaults, history),
        KernelMagics(shell, defaults),
        MetalMagics(shell),
        ProfileMagics(shell, defaults),
    )
    undo = _loaded[id(shell)] = ExitStack()
    for part in (complete, lone_line, question):
        part.install(shell)
        undo.callback(part.uninstall, shell)
    shown.install()
    undo.callback(shown.uninstall)
    shell.configurables.append(defaults)
    shell.register_magics(*magics)
    undo.callback(_forget, shell, defaults, magics)
    undo.callback(forget_kernel)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take everything out of `shell` again. Models stay in memory: the engine is the process's, not the shell's."""
    _loaded.pop(id(shell), ExitStack()).close()


def _forget(shell: InteractiveShell, defaults: MLXNB, magics: tuple[Magics, ...]) -> None:
    """IPython has no call that takes magics away; each also put itself among the configurables."""
    shell.configurables[:] = [each for each in shell.configurables if each not in (*magics, defaults)]
    for each in magics:
        shell.magics_manager.registry.pop(type(each).__name__, None)
        for kind, names in each.magics.items():
            for name in names:
                shell.magics_manager.magics[kind].pop(name, None)
