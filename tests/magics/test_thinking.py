"""Thinking models and adapters from a cell, in a real shell over the real backends."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets import TraitError

import mlxnb
from mlxnb.cli import main
from mlxnb.errors import AdapterError, OptionError
from mlxnb.magics.defaults import MLXNB
from mlxnb.render import mimebundle
from mlxnb.runtime import Engine
from tests.adapters import draw_updates, write_peft
from tests.magics.kernel import Kernel
from tests.magics.test_generate import value
from tests.tiny import TURNS, Maker, make_thinker

TEMPLATE = TURNS + (
    "<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>{% endif %}"
)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose template has a switch for thinking, and otherwise opens a block that is never closed."""
    return Path(make_thinker(tmp_path_factory.mktemp("thinker"), TEMPLATE))


@pytest.fixture(autouse=True)
def real(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_model_thinks_does_not_or_for_so_long(shell: InteractiveShell, thinker: Path, backend: str) -> None:
    line = f"%generate --model {thinker} --backend {backend} --max-tokens 16 --strict"
    on, off = value(shell, f"{line} --think on Hi"), value(shell, f"{line} --think off Hi")
    assert on.thinking
    assert on.text == ""
    assert off.thinking == ""
    assert off.text
    some = value(shell, "%generate --last --think 6")
    assert some.text
    assert 1 < some.timings.thinking_tokens <= 6
    page = mimebundle(some)["text/html"]
    assert '<details class="mlxnb-thought"><summary>Thought for' in page
    assert f"thought {some.timings.thinking_tokens} tokens in" in page


def test_a_default_for_thinking(shell: InteractiveShell, thinker: Path) -> None:
    value(shell, "%config MLXNB.think = 3")
    result = value(shell, f"%generate --model {thinker} --backend torch --max-tokens 12 Hi")
    assert "thinking was ended after 3 tokens" in result.provenance.notes
    assert value(shell, f"%generate --model {thinker} --backend torch --max-tokens 4 --think none Hi").text == ""
    value(shell, "%config MLXNB.think = 'off'")
    assert value(shell, f"%generate --model {thinker} --backend torch --max-tokens 4 --raw Hi").tokens
    assert value(shell, f"%generate --model {thinker} --backend torch --max-tokens 4 Hi").thinking == ""
    with pytest.raises(TraitError, match="It takes on, off, or how many tokens"):
        MLXNB(think="maybe")


def test_a_model_without_a_switch_fails_when_strict(shell: InteractiveShell) -> None:
    result = value(shell, "%generate --backend torch --max-tokens 2 --think off Hi")
    assert "think off not used: its chat template has no switch for thinking" in result.provenance.notes
    with pytest.raises(OptionError, match="Think off not used by pocket: its chat template has no switch"):
        value(shell, "%generate --backend torch --max-tokens 2 --think off --strict Hi")


def test_perplexity_with_an_adapter(
    shell: InteractiveShell, checkpoint: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By option and by %config, in the notebook and in the terminal."""
    base = checkpoint("llama")
    adapter = write_peft(tmp_path / "mine", draw_updates(base, ["model.layers.1.mlp.up_proj"]), 8.0)
    (tmp_path / "text.txt").write_text("The pathlib module offers classes for paths.")
    said = {}
    line = f"%mlxnb perplexity {tmp_path / 'text.txt'} --model {base} --backend torch"

    def table() -> str:
        found = capsys.readouterr().out
        return found[found.index("text") :].replace(" + mine", "")

    for name, more in (("base", ""), ("adapter", f" --adapter {adapter}")):
        value(shell, line + more)
        said[name] = table()
    assert said["base"] != said["adapter"]
    shell.run_line_magic("config", f"MLXNB.adapter = {str(adapter)!r}")
    value(shell, line)
    assert table() == said["adapter"]
    value(shell, f"{line} --adapter none")
    assert table() == said["base"]
    text = str(tmp_path / "text.txt")
    assert main(["perplexity", text, "-m", str(base), "--backend", "torch", "--adapter", str(adapter)]) == 0
    assert table() == said["adapter"]


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_an_adapter_from_a_cell(shell: InteractiveShell, checkpoint: Maker, tmp_path: Path, backend: str) -> None:
    base = checkpoint("llama")
    adapter = write_peft(tmp_path / "mine", draw_updates(base, ["model.layers.1.mlp.up_proj"]), 8.0)
    line = f"--model {base} --backend {backend} --max-tokens 8"
    plain = value(shell, f"%generate {line} Hello")
    other = value(shell, f"%generate --last --adapter {adapter}")
    again = value(shell, "%generate --last --adapter none")
    assert other.tokens != plain.tokens
    assert again.tokens == plain.tokens
    assert other.provenance.adapter == "mine"
    with capture_output() as out:
        value(shell, f"%mlxnb load {base} --backend {backend} --adapter {adapter}")
        value(shell, "%mlxnb history")
    text = "\n".join(output.data["text/plain"] for output in out.outputs)
    assert f"{base} + mine" in text
    shell.user_ns["text"] = "def f(x): return x"
    with capture_output() as out:
        value(shell, f"%mlxnb perplexity text -m {base} --backend {backend} --adapter {adapter}")
        value(shell, f"%config MLXNB.adapter = '{adapter}'")
        value(shell, f"%mlxnb perplexity text -m {base} --backend {backend}")
        value(shell, f"%mlxnb perplexity text -m {base} --backend {backend} --adapter none")
    named, default, bare = (output.data["text/plain"] for output in out.outputs)
    assert "+ mine ·" in named
    assert default == named
    assert "mine" not in bare
    value(shell, "%config MLXNB.adapter = None")
    with pytest.raises(AdapterError, match="is not there"):
        value(shell, f"%generate {line} --adapter {tmp_path}/nowhere Hello")


def test_cells_without_a_body_in_a_real_kernel(kernel: Kernel, tmp_path: Path) -> None:
    """IPython refuses a cell magic without a body, before any magic is asked."""
    (tmp_path / "ask.md").write_text("What is {{ 1 + 1 }}?")
    kernel.run("script('One', ' answer.')")
    ran = kernel.run(f"%%generate --backend scripted @{tmp_path}/ask.md")
    assert ran.reply["status"] == "ok", ran.reply
    again = kernel.run("%%generate --last --seed 4\n")
    assert again.reply["status"] == "ok"
    assert kernel.run("print(_.text)").printed == "One answer.\n"
    missing = kernel.run("%%generate @nowhere.md")
    assert missing.reply["ename"] == "PromptError"
    assert kernel.run("%%generate --seed 4").reply["ename"] == "UsageError"
