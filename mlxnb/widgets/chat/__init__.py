"""The panel of a conversation."""
