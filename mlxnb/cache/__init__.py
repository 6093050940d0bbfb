"""Caches that people can trust: finished answers, and the KV states of earlier prompts, in memory and on disk."""

from .disk import PrefixDisk
from .identity import model_identity
from .key import Answerer, prefix_namespace, repeats, result_key
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
    "budget",
    "model_identity",
    "prefix_namespace",
    "pressure",
    "repeats",
    "replay",
    "result_key",
    "snapshot_places",
]
