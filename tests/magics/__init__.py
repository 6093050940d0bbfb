"""Tests of the magics, in a real InteractiveShell and in a real kernel."""
