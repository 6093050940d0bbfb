"""`%patch_kernels`: attention paths proven, measured, put in place, taken back, and explained."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ..config import cache_dir
from ..errors import OptionError
from .defaults import MLXNB
from .fail import one_line_errors
from .kernel_options import (
    COMMANDS,
    THRESHOLDS,
    check_belonging,
    kernels_parser,
    kv_bits,
    lengths_of,
    whole_number,
)
from .subcommand import read_command


@magics_class
class KernelMagics(Magics):
    """`%patch_kernels`."""

    def __init__(self, shell: InteractiveShell, defaults: MLXNB) -> None:
        super().__init__(shell)
        self._ip = shell
        self._parser = kernels_parser()
        self._defaults = defaults

    @no_var_expand
    @line_magic
    @one_line_errors
    def patch_kernels(self, line: str) -> Any:
        options = read_command(self._parser, line, COMMANDS)
        if options.help:
            print(self._parser.format_help())
            return None
        check_belonging(options)
        return getattr(self, f"_{options.command}")(options)

    patch_kernels.__doc__ = kernels_parser().format_help()

    def _on(self, options: argparse.Namespace) -> None:
        from .. import engine
        from ..kernels import configure_optimizer, patch_mlx_lm

        changes = {n: whole_number(f"--{n.replace('_', '-')}", v) for n in THRESHOLDS if (v := getattr(options, n))}

        def patch() -> None:
            made = patch_mlx_lm(strict=options.strict)
            try:
                if changes:
                    configure_optimizer(**changes)
            except OptionError:
                made.undo()
                raise
            made.dispatcher.forget()

        engine().call(patch)
        self._status(options)

    def _off(self, options: argparse.Namespace) -> None:
        from .. import engine
        from ..kernels import configure_optimizer, unpatch_mlx_lm
        from ..render.kernels import decision_table

        configure_optimizer()
        self._give(options, None, decision_table(engine().call(unpatch_mlx_lm)))

    def _status(self, options: argparse.Namespace) -> None:
        from ..kernels import active
        from ..render.kernels import status_table

        self._give(options, active(), status_table(active()))

    def _verify(self, options: argparse.Namespace) -> None:
        from ..kernels.verify import verify
        from ..render.kernels import traffic_table, verify_table
        from .background import on_engine

        found = on_engine("Proving kernels", lambda steps: verify(full=options.full, progress=steps.report))
        self._give(options, found, verify_table(found), *([traffic_table(found)] if found.traffic else []))

    def _tune(self, options: argparse.Namespace) -> None:
        from ..render.kernels import tune_table
        from ..runtime.kernel_work import tune

        found = self._on_model("Measuring attention", options, tune)
        self._give(options, found, tune_table(found))

    def _explain(self, options: argparse.Namespace) -> None:
        from ..render.kernels import explain_tables
        from ..runtime.kernel_work import explain

        found = self._on_model("Looking at the model", options, explain)
        self._give(options, found, *explain_tables(found))

    def _bench(self, options: argparse.Namespace) -> None:
        from ..render.kernel_plot import bench_plot
        from ..render.kernels import bench_tables
        from ..runtime.kernel_work import bench, check_writable, save

        check_writable(options.save)
        found = self._on_model("Comparing attention", options, bench)
        self._give(options, found, *bench_tables(found), bench_plot(found))
        print(f"Every run is in {_short(save(found, options.save))}.")

    def _on_model(self, title: str, options: argparse.Namespace, work: Callable[..., Any]) -> Any:
        """What `work` finds on the model, which is loaded on the mlx backend: no other has these kernels."""
        from .background import on_model

        name = str(options.model or self._defaults.model)
        bits = kv_bits(options.kv_bits)
        lengths = lengths_of(options.lengths)
        return on_model(title, name, "mlx", lambda model, steps: work(model, name, bits, lengths, steps.report))

    def _give(self, options: argparse.Namespace, value: Any, *shown: Any) -> None:
        from IPython.display import display

        for each in shown:
            display(each)
        if options.into:
            self._ip.user_ns[options.into] = value


def _short(path: Path) -> str:
    """The path, or what leads there; a notebook that is passed on need not name anybody's folders."""
    if path.is_relative_to(cache_dir()):
        return f"{path.relative_to(cache_dir()).as_posix()} of the folder that %mlxnb cache where names"
    return str(path)
