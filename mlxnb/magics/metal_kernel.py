"""`%%metal_kernel`: a Metal kernel written in a cell, run on the notebook's arrays wherever the notebook runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, magics_class, needs_local_scope, no_var_expand

from .call import fill_in
from .fail import one_line_errors
from .line import read_line
from .metal_options import metal_parser
from .metal_run import KernelRun, run_kernel


@magics_class
class MetalMagics(Magics):
    """`%%metal_kernel`."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._ip = shell
        self._parser = metal_parser()

    @no_var_expand
    @needs_local_scope
    @cell_magic
    @one_line_errors
    def metal_kernel(self, line: str, cell: str, local_ns: Mapping[str, Any] | None = None) -> None:
        options, _ = read_line(self._parser, line, in_cell=True)
        if options.help:
            print(self._parser.format_help())
            return
        names = {**self._ip.user_ns, **(local_ns or {})}
        self._fill_in(options, names)
        run = run_kernel(options, cell, names)
        if run.fault() is None:  # what a broken kernel left is not put in the place of something good
            self._ip.user_ns.update(run.outputs)
        if options.into:
            self._ip.user_ns[options.into] = run
        self._show(run)

    metal_kernel.__doc__ = metal_parser().format_help()

    def _fill_in(self, options: argparse.Namespace, names: Mapping[str, Any]) -> None:
        options.no_interpolate = False
        fill_in(options, "", names)

    def _show(self, run: KernelRun) -> None:
        from IPython.display import display

        from .metal_tables import tables

        for table in tables(run):
            display(table)
        fatal = run.fault()
        if fatal is not None:
            raise fatal
