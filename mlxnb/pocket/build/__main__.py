"""Build the pocket model: `python -m mlxnb.pocket.build [step] [--out DIR]`."""

import argparse
from pathlib import Path

STEPS = ("all", "data", "tokenizer", "train", "evaluate", "conversations", "card")


def main(arguments: list[str] | None = None) -> None:
    """Run one step, or all of them: data, tokenizer, train, evaluate, conversations, card."""
    parser = argparse.ArgumentParser(prog="python -m mlxnb.pocket.build", description=__doc__)
    parser.add_argument("step", nargs="?", choices=STEPS, default="all", help="what to do, by default everything")
    parser.add_argument("folder", nargs="?", type=Path, help="the model folder, the same as --out")
    parser.add_argument("--out", type=Path, default=Path("pocket-model"), help="the model folder (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and a few steps, to try the command")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder or chosen.out
    folder.mkdir(parents=True, exist_ok=True)
    for step in STEPS[1:] if chosen.step == "all" else (chosen.step,):
        RUN[step](folder, chosen.tiny)


def data(folder: Path, tiny: bool) -> None:
    """Look at the running Python and say how much there is to learn."""
    from .facts import library
    from .lessons import epoch

    lessons = epoch(0)
    examples = sum(f.example is not None for f in library().facts)
    print(f"{len(library().facts)} names in {len(library().modules)} modules, {examples} executed examples;", end=" ")
    print(f"an epoch has {len(lessons.chats)} chats and {len(lessons.texts)} reference texts")


def tokenizer(folder: Path, tiny: bool) -> None:
    """Train the tokenizer and write it with the chat template."""
    from .layout import write_tokenizer
    from .tokenizer import VOCABULARY, train_tokenizer

    write_tokenizer(train_tokenizer(512 if tiny else VOCABULARY), folder)


def train(folder: Path, tiny: bool) -> None:
    """Train the model and write its weights; a run that was stopped goes on where it last saved."""
    from .layout import SHIPPED, TINY
    from .train import Recipe
    from .train import train as run

    print(run(folder, TINY if tiny else SHIPPED, Recipe(steps=3) if tiny else Recipe()))


def evaluate(folder: Path, tiny: bool) -> None:
    """Measure the model on the held-out lists in full precision, 8 bit and 4 bit, and in long chats."""
    from .evaluate import evaluate as measure

    measure(folder, quick=tiny)


def conversations(folder: Path, tiny: bool) -> None:
    """Write held-out questions with their answers, on which a conversion of the model is checked."""
    from .heldout import write_conversations

    write_conversations(folder)


def card(folder: Path, tiny: bool) -> None:
    """Write the model card with the figures of the training and the evaluation."""
    from .card import write_card

    write_card(folder)


RUN = {
    "data": data,
    "tokenizer": tokenizer,
    "train": train,
    "evaluate": evaluate,
    "conversations": conversations,
    "card": card,
}

if __name__ == "__main__":
    main()
