"""What saving the settings of a session would write, and what would then hold in a new kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import DEFAULT, FILE, SETTINGS, VARIABLES, Settings, if_saved
from ...errors import OptionError


@dataclass(frozen=True, slots=True)
class Saving:
    """`values` by variable as `path` would have them, the settings of a new kernel `before` and `then`; and `variables`
    by setting.
    """

    path: Path
    values: dict[str, str]
    variables: dict[str, str]
    before: Settings
    then: Settings

    def rows(self) -> Iterator[tuple[str, str, str | None, str]]:
        """The variable, what will be in the file, what is there now, and what would hold in a new kernel."""
        for name, variable in self.variables.items():
            there = self.before.file.values.get(variable)
            yield variable, self.values[variable] or "empty", _readable(name, there), self._held(name, variable)

    def _held(self, name: str, variable: str) -> str:
        value = text_of(self.then, name) or "nothing"
        givers = self.then.givers(name)
        if not givers or givers[0] == f"{variable} in {FILE}":
            return value
        where = givers[0] if givers[0].endswith(FILE) else f"{givers[0]} in the environment"
        return f"{value}: {where} wins over what is saved"


def saving(changed: Mapping[str, Any]) -> Saving:
    """What saving `changed`, settings as `set_here` has them, would come to."""
    variables = {name: VARIABLES[name][0] for name in changed}
    values = {variables[name]: _written(name, value) for name, value in changed.items()}
    before, then = if_saved({}), if_saved(values)
    return Saving(before.file.path, values, variables, before, then)


def text_of(now: Settings, name: str) -> str:
    """A setting's value as one writes it; a wrong one as nothing, since whoever gave it may have given a secret."""
    try:
        value = getattr(now, name)
    except OptionError:
        return ""
    return at_home(value) if isinstance(value, Path) else "" if value is None else str(value)


def at_home(path: Path) -> str:
    """A path for a notebook that is passed on: it names nobody."""
    home = Path.home()
    return (Path("~") / path.relative_to(home)).as_posix() if path.is_relative_to(home) else str(path)


def _written(name: str, value: Any) -> str:
    if value is DEFAULT:
        value = SETTINGS[name].value()
    return "" if value is None else str(value)


def _readable(name: str, text: str | None) -> str | None:
    """A value as a file has it; one that the setting does not take is not repeated."""
    try:
        if text:
            SETTINGS[name].read(name, text)
    except OptionError:
        return "what it does not take"
    return text
