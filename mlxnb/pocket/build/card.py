"""Write MODEL_CARD.md: the text of card.md with the figures that training and evaluation left in the folder."""

import json
import platform
from pathlib import Path
from string import Template
from typing import Any

from .evaluate import LENGTHS
from .facts import library
from .heldout import LISTS

TEXT = Path(__file__).with_name("card.md")
TITLES = {"tuning": "First list, seen while tuning", "unseen": "Second list, not used for tuning"}
PRECISIONS = ("float32 sample", "8 bit", "4 bit")


def write_card(folder: Path) -> None:
    """Fill the card's figures from training.json and evaluation.json and write it beside the weights."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    figures = {
        "python": platform.python_version(),
        "facts": f"{len(library().facts):,}",
        "modules": len(library().modules),
        "examples": sum(f.example is not None for f in library().facts),
        "parameters": f"{training['parameters'] / 1e6:.2f} M",
        "megabytes": f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB",
        "steps": f"{training['steps']:,}",
        "tokens": f"{training['tokens'] / 1e6:.1f} M",
        "wall": f"{training['wall_s'] / 60:.0f}",
        "cpu": f"{training['cpu_s'] / 60:.0f}",
        "loss": f"{training['loss']:.3f}",
        "exact": lists(evaluation["lists"]),
        "context": contexts(evaluation["context"]),
        "floor": min(LENGTHS),
    }
    card = Template(TEXT.read_text(encoding="utf-8")).substitute(figures)
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def lists(measured: dict[str, Any]) -> str:
    """Draw the table of each list: a row a kind, exact answers in each precision."""
    return "\n\n".join(f"**{TITLES[part]}**\n\n{table(measured[part])}" for part in LISTS)


def table(part: dict[str, Any]) -> str:
    """Draw one list's table."""
    sizes = [part[p]["all"]["n"] for p in ("float32", *PRECISIONS)]
    rows = [
        "| kind | float32 | right name | " + " | ".join(PRECISIONS) + " |",
        "| --- |" + " ---: |" * (2 + len(PRECISIONS)),
        "| questions | " + " | ".join(str(n) for n in (sizes[0], sizes[0], *sizes[1:])) + " |",
    ]
    for kind, full in part["float32"].items():
        if kind != "seconds":
            cells = [full["exact"], full["right"], *(part[p][kind]["exact"] for p in PRECISIONS)]
            rows.append(f"| {kind} | " + " | ".join(f"{c:.3f}" for c in cells) + " |")
    return "\n".join(rows)


def contexts(measured: dict[str, Any]) -> str:
    """Draw the table of long chats."""
    rows = ["| tokens before the answer | questions | exact |", "| ---: | ---: | ---: |"]
    rows += [f"| up to {tokens} | {r['n']} | {r['exact']:.3f} |" for tokens, r in measured.items()]
    return "\n".join(rows)
