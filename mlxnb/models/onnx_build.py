"""Run as a script, in a process of its own: exports a model with onnxruntime-genai's builder, once that is shown right.

The builder knows some of what a configuration can say and passes over the rest in silence: of 18 tiny families with
unusual configurations it wrote 8, 2 of them as models that compute something else (a Llama with biases and linear
scaling, and one with a YaRN that is not rounded). So the first layers are exported in float32 before anything else, and
their logits held against those of transformers.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

BUILDER = "onnxruntime_genai.models.builder"
LAYERS = 6  # enough for every kind of layer: none repeats after more than six
FIRST, THEN = 40, 24  # tokens fed to begin with, and after those, so that the KV cache is read too
SHARE = 1e-3  # of the largest logit; right exports differed by 2e-5 of it at most, wrong ones by more than it
PROVING = "Proving the export"


def main(origin: Path, folder: Path, precision: str, scratch: Path) -> None:
    """Export `origin` to the existing `folder`; what is not right ends the process with the reason as its last line."""
    cut, proof = first_layers(origin, scratch / "cut"), scratch / "proof"
    build(cut, proof, "fp32", scratch)
    print(PROVING, flush=True)
    difference, largest = compare(cut, proof)
    if not difference <= SHARE * largest:
        apart = f"logits of up to {largest:.3g} differ by up to {difference:.3g}"
        sys.exit(f"what it writes computes something else: {apart}")
    build(origin, folder, precision, scratch)


def build(origin: Path, folder: Path, precision: str, scratch: Path) -> None:
    """Run the builder as its command line does, without network and without code from the model's folder."""
    options = ["-p", precision, "-e", "cpu", "-c", str(scratch / "cache")]
    quiet = ["--extra_options", "hf_token=false", "hf_remote=false"]
    sys.argv = [BUILDER, "-i", str(origin), "-o", str(folder), *options, *quiet]
    runpy.run_module(BUILDER, run_name="__main__", alter_sys=True)


def first_layers(origin: Path, folder: Path) -> Path:
    """A folder like `origin` whose configuration has LAYERS layers at most; the files of weights are the same."""
    config = json.loads((origin / "config.json").read_text(encoding="utf-8"))
    layers = config.get("num_hidden_layers")
    if not isinstance(layers, int) or layers <= LAYERS:
        return origin
    config["num_hidden_layers"] = LAYERS
    if isinstance(config.get("layer_types"), list):
        config["layer_types"] = config["layer_types"][:LAYERS]
    folder.mkdir()
    for file in origin.iterdir():
        if file.is_file() and file.suffix != ".py":
            _place(file, folder / file.name)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def _place(file: Path, at: Path) -> None:
    try:
        os.symlink(file.resolve(), at)
    except OSError:  # Windows asks for a right to make links
        shutil.copyfile(file, at)


def compare(origin: Path, exported: Path) -> tuple[float, float]:
    """How far the logits of both are apart at most, and the largest of them, over tokens drawn with a fixed seed."""
    import numpy as np

    ours, theirs = _logits_of_export(exported), _logits_of_origin(origin)
    ids = np.random.default_rng(0).integers(0, theirs.vocabulary, FIRST + THEN)
    expected = theirs(ids)
    got = np.concatenate([ours(ids[:FIRST]), ours(ids[FIRST:])])
    return float(np.abs(got - expected).max()), float(np.abs(expected).max())


class _logits_of_origin:
    """Logits [tokens, vocabulary] of a model that transformers reads, in float32."""

    def __init__(self, origin: Path) -> None:
        import torch
        import transformers

        reading = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
        self._model = transformers.AutoModelForCausalLM.from_pretrained(origin, dtype=torch.float32, **reading).eval()
        self.vocabulary = self._model.config.get_text_config().vocab_size

    def __call__(self, ids: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self._model(input_ids=torch.tensor(ids)[None]).logits[0].numpy()


class _logits_of_export:
    """Logits [tokens, vocabulary] behind each token of a piece, in a sequence that grows."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime_genai as og

        og.disable_telemetry_events()
        self._model = og.Model(str(folder))
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=FIRST + THEN, batch_size=1, num_beams=1)
        self._generator = og.Generator(self._model, params)

    def __call__(self, ids: Any) -> Any:
        import numpy as np

        self._generator.append_tokens(np.asarray(ids, np.int32))
        logits = self._generator.get_output("logits")
        return logits.reshape(-1, logits.shape[-1]).astype(np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
