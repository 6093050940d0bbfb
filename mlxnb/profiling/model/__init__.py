"""A model as a profile sees it: its weights, what a token needs, and the time inside one."""
