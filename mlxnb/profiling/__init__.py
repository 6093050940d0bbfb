"""Profiles models on this machine: where time and memory go, what limits them, and what to do about it."""

from .plan import Limits, Plan
from .profile import profile
from .report import Report

__all__ = ["Limits", "Plan", "Report", "profile"]
