"""The `mlxnb` command: the quick-start in the terminal, the notebooks in JupyterLab, models, backends, the machine."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import __version__
from .errors import MlxnbError
from .request import check_option

QUICK_START = "01-first-generation.ipynb"
DEFAULT_FOLDER = "mlxnb-notebooks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, or 1 when it failed, with a line on stderr that says why."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a pipe on Windows cannot write every character of an answer
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command == "profile":  # argparse takes names that come after an option for a mistake
        options.models += [word for word in rest if not word.startswith("-")]
        rest = [word for word in rest if word.startswith("-")]
    if rest and options.command != "lab":
        parser.error(f"unknown: {' '.join(rest)}{_hint(options.command, rest[0])}")
    try:
        match options.command:
            case "demo":
                return demo()
            case "doctor":
                return doctor(options.again)
            case "models":
                return models(options.context, options.recommend)
            case "download":
                return download(options.name, options.revision)
            case "backends":
                return backends(options.model, options.measure)
            case "perplexity":
                return perplexity(options)
            case "convert":
                return convert(options)
            case "profile":
                return profile(options)
            case _:
                return lab(Path(options.folder), rest)
    except MlxnbError as error:
        print(f"mlxnb: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # as where `head` has read enough; at exit Python would say it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        from .runtime.shared import close_shared_engine

        print("mlxnb: stopped.", file=sys.stderr, flush=True)
        close_shared_engine()  # now: a library that it is still importing falls apart aloud when Python itself ends
        return 130


def _hint(command: str, option: str) -> str:
    from .profiling.runs.plan_values import as_sweep

    hint = as_sweep(option) if command == "profile" else ""
    return f". {hint}" if hint else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlxnb", description="Local language models in a notebook.")
    parser.add_argument("--version", action="version", version=f"mlxnb {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("demo", help="run the quick-start notebook and show its answers in this terminal")
    look = commands.add_parser("doctor", help="show what this machine is, how fast, and what is missing")
    look.add_argument("--again", action="store_true", help="measure the speeds anew")
    here = commands.add_parser("models", help="show the models on this machine and whether they fit")
    here.add_argument("--context", metavar="N", type=int, help="the tokens that there should be room for")
    uses = "what to take for chat, code, reasoning or drafting (default chat)"
    here.add_argument("--recommend", metavar="USE", nargs="?", const="chat", help=uses)
    fetch = commands.add_parser("download", help="fetch a model to keep; a stopped download goes on where it was")
    fetch.add_argument("name", metavar="NAME", help="ORGANISATION/NAME, as the Hugging Face Hub has it")
    fetch.add_argument("--revision", metavar="R", help="a branch, a tag or a commit")
    table = commands.add_parser("backends", help="show how each backend stands with a model, and how fast it is")
    table.add_argument("model", metavar="MODEL", nargs="?", help="default: the settings' model, or pocket")
    table.add_argument("--measure", action="store_true", help="measure those that are ready")
    likely = commands.add_parser("perplexity", help="show how well a model predicts text files")
    likely.add_argument("files", metavar="FILE", nargs="+", help="text in UTF-8")
    likely.add_argument("-m", "--model", metavar="NAME", help="default: the settings' model, or pocket")
    likely.add_argument("--backend", metavar="NAME", help="what computes it (default auto)")
    likely.add_argument("--dtype", metavar="TYPE", help="of the weights: float32, bfloat16 or float16")
    likely.add_argument("--quantize", metavar="KIND", help="load the weights as int8 or int4")
    likely.add_argument("--adapter", metavar="FOLDER", help="a LoRA adapter on top of the model, of mlx-lm or peft")
    _add_convert(commands.add_parser("convert", help="write a model in another format, and show what that cost"))
    _add_profile(commands.add_parser("profile", help="measure where a model's time and memory go, and what limits it"))
    epilog = "Further options go to JupyterLab: mlxnb lab --no-browser, for example."
    lab = commands.add_parser("lab", help="open a copy of the notebooks in JupyterLab", epilog=epilog)
    where = f"folder for the copy (default {DEFAULT_FOLDER})"
    lab.add_argument("folder", metavar="DIR", nargs="?", default=DEFAULT_FOLDER, help=where)
    return parser


def _add_convert(parser: argparse.ArgumentParser) -> None:
    from .conversion import add_options

    parser.add_argument("source", metavar="NAME", help="pocket, a folder, a local name or a Hugging Face id")
    parser.add_argument("target", metavar="TARGET", nargs="?", help="the new folder, or GGUF file")
    parser.add_argument("--quantize", metavar="BITS", help="bits of a weight, such as 4 or 8; GGUF: q4_k_m")
    parser.add_argument("--dtype", metavar="TYPE", help="of what is not quantised: float32, bfloat16 or float16")
    parser.add_argument("--backend", metavar="NAME", help="what computes the check (default auto)")
    add_options(parser)


def _add_profile(parser: argparse.ArgumentParser) -> None:
    from .profile_options import add_options

    parser.add_argument("models", metavar="MODEL", nargs="*", help="default: the settings' model, or pocket")
    add_options(parser)
    parser.add_argument("--json", metavar="PATH", help="write the report to this file, as JSON")


def notebooks_folder() -> Path:
    """Where the notebooks are: inside the package once it is installed, beside it in a source tree."""
    package = Path(__file__).resolve().parent
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if (folder / QUICK_START).is_file():
            return folder
    raise MlxnbError(f"The notebook {QUICK_START} is missing.", "Install mlxnb anew.")


def demo() -> int:
    """Run the quick-start notebook in a fresh kernel and print each cell with its answer as it finishes."""
    from .demo import play

    return play(notebooks_folder() / QUICK_START)


def doctor(again: bool = False) -> int:
    """Print what `diagnose` finds."""
    from .doctor import diagnose
    from .render.doctor import doctor_tables

    print("\n\n".join(table.text() for table in doctor_tables(diagnose(again))))
    return 0


def models(context: int | None = None, use: str | None = None) -> int:
    """Print what is here, or with a use what to take for it."""
    from .backends import default_backends
    from .render.models import here_tables
    from .render.recommended import recommended_tables
    from .runtime.here import models_here, recommended_here

    if context is not None:
        check_option("context", context, {"kind": int, "low": 1, "high": None})
    backends = default_backends()
    if use is not None:
        tables = recommended_tables(recommended_here(backends, use, context), use)
    else:
        tables = here_tables(models_here(backends, context), (), context)
    print("\n\n".join(table.text() for table in tables))
    return 0


def download(name: str, revision: str | None = None) -> int:
    """Fetch a model with a line that tells how far it is, and print where it lies."""
    from .render.models import downloaded_table
    from .render.transfer import Transfer
    from .render.work import WorkCell
    from .runtime.downloads import download as fetch
    from .runtime.here import described

    with WorkCell(f"Downloading {name}", Transfer().words) as line:
        source = fetch(name, revision, line.update)
    print(downloaded_table(source, described(source)).text())
    return 0


def backends(model: str | None = None, measure: bool = False) -> int:
    """Print how each backend stands with a model, and what would help."""
    from .config import settings
    from .render.backends import backends_table, recommendations_table
    from .runtime import Engine

    engine, name = Engine(), model or settings().model

    def say(done: int, total: int, doing: str) -> None:
        if doing not in said:
            said.add(doing)
            print(f"{doing} ({done + 1} of {total})", file=sys.stderr)

    said: set[str] = set()
    try:
        tables = [backends_table(engine.backends_table(name, measure=measure, progress=say), name)]
        found = engine.setup_recommendations(name)
    finally:
        engine.close()
    tables += [recommendations_table(found)] if found else []
    print("\n\n".join(table.text() for table in tables))
    return 0


def perplexity(options: argparse.Namespace) -> int:
    """Print the perplexity of each file, and of all."""
    from .config import settings
    from .render.perplexity import perplexity_table
    from .render.work import WorkCell
    from .runtime import Engine
    from .runtime.perplexities import perplexities, read_text

    texts = [read_text(Path(name).expanduser()) for name in options.files]
    model, backend = options.model or settings().model, options.backend or settings().backend
    engine, how = Engine(), (options.dtype, options.quantize)
    try:
        with WorkCell("Measuring perplexity") as line:
            found = perplexities(engine, texts, model, backend, *how, line.update, options.adapter)
    finally:
        engine.close()
    print(perplexity_table(found).text())
    return 0


def convert(options: argparse.Namespace) -> int:
    """Convert a model with the progress in the last line, and print what it cost."""
    from . import engine
    from .conversion import as_arguments
    from .render.conversion import conversion_bundle
    from .render.work import WorkCell

    with WorkCell(f"Converting {options.source}") as cell:
        report = engine().convert(options.source, options.target, **as_arguments(options), progress=cell.update)
    print(conversion_bundle(report)["text/plain"])
    return 0


def profile(options: argparse.Namespace) -> int:
    """Profile models with the progress in the last line, and print the report; 130 where an interrupt cut it short."""
    from . import profile as measure
    from .config import settings
    from .profile_options import as_arguments, sort_words
    from .profiling.asked import was_stopped
    from .profiling.files import check_writable, read_earlier, read_prompts, write_json

    sort_words(options, options.models)
    given = settings()
    base = {name: value for name in ("backend", "quantize") if (value := getattr(given, name)) not in ("auto", None)}
    arguments = {**as_arguments(options), "base": base}
    prompts = None if options.prompts is None else read_prompts(options.prompts)
    earlier = None if options.against is None else read_earlier(options.against)
    check_writable(options.save, options.json)
    report = measure(*(options.models or [given.model]), prompts=prompts, **arguments)
    try:  # the files first: whoever reads the text may close its pipe, and what cannot be written is still shown
        if options.json is not None:
            write_json(report, options.json)
        if options.save is not None:
            report.save(options.save)
    finally:
        print(as_text(report))
        if earlier is not None:
            print("\n" + as_text(report.against(earlier)))
    return 130 if was_stopped(report) else 0


def as_text(shown: Any) -> str:
    """The plain twin of what shows itself in a notebook."""
    return str(shown._repr_mimebundle_()["text/plain"])


def lab(folder: Path, options: Sequence[str] = ()) -> int:
    """Copy the notebooks to `folder` and hand the process over to JupyterLab; files there are never overwritten."""
    if find_spec("jupyterlab") is None:
        raise MlxnbError("JupyterLab is not installed.", "Install it: pip install 'mlxnb[lab]'")
    try:
        for name, state in copy_notebooks(notebooks_folder(), folder).items():
            print(f"{folder / name}: {state}")
    except OSError as error:
        problem = f"The notebooks cannot be copied to {folder}: {error.strerror}."
        raise MlxnbError(problem, "Name another folder.") from None
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(folder / QUICK_START), *options])


def copy_notebooks(source: Path, folder: Path) -> dict[str, str]:
    """Copy what `folder` lacks; by name, what became of each notebook: "copied", "there already" or "yours, kept"."""
    folder.mkdir(parents=True, exist_ok=True)
    states = {}
    for path in sorted(source.glob("*.ipynb")):
        target = folder / path.name
        if not target.exists():
            shutil.copyfile(path, target)
            states[path.name] = "copied"
        else:
            states[path.name] = "there already" if target.read_bytes() == path.read_bytes() else "yours, kept"
    return states


if __name__ == "__main__":
    sys.exit(main())
