"""`%profile_model` and `%%profile_model`: where time and memory go, what limits them, and what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand

from ..profile_options import as_arguments
from ..render.numbers import plural
from .call import fill_in
from .defaults import MLXNB
from .fail import interrupted, one_line_errors
from .profile_asked import defaults_of, earlier_of, prompts_of
from .profile_options import finding_number, profile_parser, read
from .profile_try import LastReport

if TYPE_CHECKING:
    from ..profiling import Report


@magics_class
class ProfileMagics(Magics):
    """`%profile_model` and `%%profile_model`."""

    def __init__(self, shell: InteractiveShell, defaults: MLXNB) -> None:
        super().__init__(shell)
        self._ip = shell
        self._parser = profile_parser()
        self._defaults = defaults
        self._last = LastReport()

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    @one_line_errors
    def profile_model(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        options = read(self._parser, line)
        if options.help:
            print(self._parser.format_help())
            return None
        names = {**self._ip.user_ns, **(local_ns or {})}
        filled = fill_in(options, cell or "", names)
        if options.try_finding is not None:
            return self._try(options)
        return self._profile(options, None if cell is None else filled, names)

    profile_model.__doc__ = profile_parser().format_help()

    def _profile(self, options: argparse.Namespace, cell: str | None, names: Mapping[str, Any]) -> Report:
        """Measure, keep and save. An interrupt keeps, saves and shows what there is, and then ends the cell."""
        from IPython.display import display

        from .. import profile
        from ..profiling import Plan
        from ..profiling.asked import was_stopped
        from ..profiling.files import check_writable

        arguments = {**as_arguments(options), "base": defaults_of(self._defaults)}
        prompts = prompts_of(options.prompts, cell, names) or None
        earlier = earlier_of(options.against, names)
        check_writable(options.save)
        base = Plan.of(**{**arguments, "compare": None}).base  # which needs models to be held against each other
        try:
            report = profile(*(options.models or [self._defaults.model]), prompts=prompts, **arguments)
        except KeyboardInterrupt:
            raise interrupted("stopped before anything was measured.") from None
        self._last.set(report, options.into, base)
        try:
            self._keep(report, options)
            if earlier is not None:
                display(report.against(earlier))
        except BaseException:  # a full disk, or an interrupt meanwhile, costs no measurement
            self._show(report, options)
            print(f"What was measured is in `{options.into or '_'}`.")
            raise
        if was_stopped(report):
            raise self._stopped(report, options)
        return report

    def _keep(self, report: Report, options: argparse.Namespace) -> None:
        """Put the report where the line wants it."""
        if options.into:
            self._ip.push({options.into: report})
        if options.save is not None:
            report.save(options.save)
            print(f"The report is in {options.save}.")

    def _stopped(self, report: Report, options: argparse.Namespace) -> KeyboardInterrupt:
        """Show what was measured until the interrupt; the error to end the cell with."""
        self._show(report, options)
        measured = plural(sum(run.timings is not None for run in report.runs), "run")
        return interrupted(f"stopped after {measured}; the report of them is in `{options.into or '_'}`.")

    def _show(self, report: Report, options: argparse.Namespace) -> None:
        """Show a report, and keep it, where it cannot be the value of a cell that fails."""
        from IPython.display import display

        display(report)
        if not options.into:
            self._ip.displayhook.update_user_ns(report)

    def _try(self, options: argparse.Namespace) -> None:
        """Measure a finding's remedy; the report with what it gave takes the place of the one without."""
        from IPython.display import display

        from ..render.trial import trial_table

        display(trial_table(self._last.attempt(finding_number(options.try_finding))))
        name = options.into or self._last.name
        if name:
            self._ip.push({name: self._last.report()})
