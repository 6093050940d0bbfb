"""The pocket model: a small language model that ships inside the package and knows Python's standard library."""

from pathlib import Path

NAME = "pocket"


def path() -> Path:
    """Return the folder that holds the weights, the tokenizer and their configuration."""
    return Path(__file__).parent / "model"
