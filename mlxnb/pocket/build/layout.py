"""Write a model folder in the Hugging Face layout that transformers 4 and 5 and mlx-lm all read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tokenizer import END, PAD

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

CONTEXT = 1024
ROPE_THETA = 10_000.0
MOST_NEW_TOKENS = 160
TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
# Every dimension is a multiple of 64, so that each matrix can be quantised in groups of 64.
SHIPPED = {
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}


def configuration(size: dict[str, int], tokenizer: "Tokenizer") -> dict[str, Any]:
    """Return config.json: a Qwen3 with head_dim 64 and tied embeddings."""
    ends = [tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)]
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **size,
        "head_dim": 64,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        # transformers 5 reads rope_parameters, mlx-lm and transformers 4 read rope_theta
        "rope_theta": ROPE_THETA,
        "rope_parameters": {"rope_theta": ROPE_THETA, "rope_type": "default"},
        "use_sliding_window": False,
        "sliding_window": None,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": ends,
        "pad_token_id": ends[1],
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
    }


def write_tokenizer(tokenizer: "Tokenizer", folder: Path) -> None:
    """Write the tokenizer and its configuration, with the chat template inside."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # known to transformers 4 and 5 alike
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", settings)


def write_model(weights: dict[str, "Tensor"], config: dict[str, Any], folder: Path) -> None:
    """Write config.json, generation_config.json and the weights in bfloat16, each aside and then renamed."""
    import torch
    from safetensors.torch import save_file

    write_json(folder / "config.json", config)
    generation = {k: config[k] for k in ("eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", generation | {"do_sample": False, "max_new_tokens": MOST_NEW_TOKENS})
    halves = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in weights.items() if k != "lm_head.weight"}
    aside = folder / "model.safetensors.new"
    save_file(halves, str(aside), metadata={"format": "pt"})
    aside.chmod(0o644)  # safetensors makes it readable to its owner alone
    aside.replace(folder / "model.safetensors")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people to read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
