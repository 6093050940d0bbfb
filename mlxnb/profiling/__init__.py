"""Profiles models on this machine: where time and memory go, what limits them, and what to do about it."""

from .judge.figures import Summary
from .profile import profile
from .report import Report
from .runs.plan import Limits, Plan

__all__ = ["Limits", "Plan", "Report", "Summary", "profile"]
