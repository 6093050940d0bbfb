"""The machine while it is measured: what it is, its memory, clock, heat and energy."""
