"""Lists the models that are on this machine, without network and without opening a weight file."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from ..config import local_models_dir
from .cache import list_cached
from .format import format_of
from .local import list_local
from .source import ModelSource


def find_models() -> list[ModelSource]:
    """Every model that is here: pocket, then those under LOCAL_MODELS_DIR, then those in the Hugging Face cache.

    The names are what `resolve` takes; one that an earlier place has too is listed once.
    """
    from .. import pocket

    sources = [ModelSource(pocket.NAME, pocket.path(), "pocket")]
    root = local_models_dir()
    if root:
        sources += [ModelSource(name, path, "local", format=format_of(path)) for name, path in list_local(root)]
    sources += [ModelSource(name, path, "cache", commit) for name, path, commit in list_cached()]
    first = {source.name: source for source in reversed(sources)}
    return [source for source in sources if first[source.name] is source]


def close_names(name: str, names: Iterable[str]) -> list[str]:
    """At most three of `names` that read much like `name`, case and organisation aside, the closest first."""
    by_key: dict[str, str] = {}
    for other in names:
        by_key.setdefault(other.lower(), other)
        by_key.setdefault(other.rpartition("/")[2].lower(), other)
    wanted = name.lower()
    keys = get_close_matches(wanted, by_key, 3) or get_close_matches(wanted.rpartition("/")[2], by_key, 3)
    return list(dict.fromkeys(by_key[key] for key in keys))
