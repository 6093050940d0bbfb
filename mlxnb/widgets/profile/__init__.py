"""The panel of a profile."""
