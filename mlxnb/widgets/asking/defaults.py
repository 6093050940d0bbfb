"""What a `%%generate` of this notebook asks with where its line says nothing: where the controls of a panel begin."""

from __future__ import annotations

from typing import Any

from ...config import settings
from ...request import option_fields

OF_SETTINGS = ("model", "backend", "quantize", "max_tokens", "temperature", "top_p")
NOTHING = {"model": "pocket", "backend": "auto", "system": "", "think": None, "stop": ()}


def defaults() -> dict[str, Any]:
    """By the names that `Request.of` takes: those of `%config MLXNB` where the extension is loaded, else the settings.

    Raises:
        OptionError: a setting holds what it does not take.
    """
    from IPython.core.getipython import get_ipython

    # Fronts do not import each other: IPython holds the object of the magics that `%config` sets.
    options = {name: f.default for name, f in option_fields().items()}
    given = next((each for each in getattr(get_ipython(), "configurables", ()) if type(each).__name__ == "MLXNB"), None)
    if given is not None:
        found = given.request_options()
    else:
        now = settings()
        found = {name: getattr(now, name) for name in OF_SETTINGS}
    return {**NOTHING, **options, **found, "system": found.get("system") or ""}
