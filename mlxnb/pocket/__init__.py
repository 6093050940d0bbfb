"""The pocket model: a small language model that ships inside the package and knows Python's standard library."""

import json
from pathlib import Path

NAME = "pocket"
CONVERSATIONS = "conversations.json"


def path() -> Path:
    """Return the folder that holds the weights, the tokenizer and their configuration."""
    return Path(__file__).parent / "model"


def conversations() -> list[tuple[str, str]]:
    """Return questions that the model was not trained on, as it reads them, with right answers, as it writes them."""
    held = json.loads((path() / CONVERSATIONS).read_text(encoding="utf-8"))
    return [(asked, answer) for asked, answer in held]
