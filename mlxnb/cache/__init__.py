"""Caches that people can trust: finished answers, and the KV states of earlier prompts, in memory and on disk."""

from .disk import PrefixDisk
from .identity import model_identity
from .journal import Journal, Journals
from .key import Answerer, as_asked, prefix_namespace, repeats, result_key, row_key, run_key
from .places import snapshot_places
from .prefix import Lookup, Pin, PrefixCache, Shrunk
from .pressure import Pressure, budget, pressure
from .replay import replay
from .results import ResultCache, Usage
from .states import HostArray, KVStates
from .stats import Ledger, Seen, Tally
from .tiers import Pinned, Prefixes
from .warn import CacheWarning, WarnOnce

__all__ = [
    "Answerer",
    "CacheWarning",
    "HostArray",
    "Journal",
    "Journals",
    "KVStates",
    "Ledger",
    "Lookup",
    "Pin",
    "Pinned",
    "PrefixCache",
    "PrefixDisk",
    "Prefixes",
    "Pressure",
    "ResultCache",
    "Seen",
    "Shrunk",
    "Tally",
    "Usage",
    "WarnOnce",
    "as_asked",
    "budget",
    "model_identity",
    "prefix_namespace",
    "pressure",
    "repeats",
    "replay",
    "result_key",
    "row_key",
    "run_key",
    "snapshot_places",
]
