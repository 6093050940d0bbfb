"""Scripts that make the calls of mlx-lm's README and examples, with the import as their only difference.

Each is run with the model's name as its argument. They print what they come to, for a comparison with mlx-lm.
"""

ANSWER = """
import sys
from {lm} import generate, load

model, tokenizer = load(sys.argv[1])
messages = [{{"role": "user", "content": "What does itertools.chain do?"}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
print(generate(model, tokenizer, prompt=prompt, verbose=False))
"""

STREAM = """
import sys
from {lm} import load, stream_generate

model, tokenizer = load(sys.argv[1])
prompt = tokenizer.apply_chat_template([{{"role": "user", "content": "Where is sqrt?"}}], add_generation_prompt=True)
for response in stream_generate(model, tokenizer, prompt, max_tokens=512):
    print(response.text, end="", flush=True)
print(response.finish_reason, response.generation_tokens)
"""

SAMPLED = """
import sys
from {lm} import generate, load
from {lm}.sample_utils import make_logits_processors, make_sampler

model, tokenizer = load(path_or_hf_repo=sys.argv[1], tokenizer_config={{"eos_token": "<|im_end|>"}})
conversation = [{{"role": "user", "content": "What is a deque?"}}]
prompt = tokenizer.apply_chat_template(conversation=conversation, add_generation_prompt=True)
response = generate(model=model, tokenizer=tokenizer, prompt=prompt, max_tokens=40, verbose=False,
                    sampler=make_sampler(temp=0.7, top_p=1e-6),
                    logits_processors=make_logits_processors(repetition_penalty=1.05))
print(response)
"""

CHAT = """
import os, sys
from {lm} import generate, load
from {lm}.models.cache import load_prompt_cache, make_prompt_cache, save_prompt_cache

model, tokenizer = load(sys.argv[1])
prompt_cache = make_prompt_cache(model)
file = os.path.join(sys.argv[2], "chat.safetensors")
for words in ("What does itertools.chain do?", "And where is sqrt?"):
    prompt = tokenizer.apply_chat_template([{{"role": "user", "content": words}}], add_generation_prompt=True)
    print(generate(model, tokenizer, prompt=prompt, verbose=False, prompt_cache=prompt_cache))
save_prompt_cache(file, prompt_cache)
prompt_cache = load_prompt_cache(file)
prompt = tokenizer.apply_chat_template([{{"role": "user", "content": "Hi!"}}], add_generation_prompt=True)
print(generate(model, tokenizer, prompt=prompt, verbose=False, prompt_cache=prompt_cache))
"""

BATCH = """
import sys
from {lm} import batch_generate, load

model, tokenizer = load(sys.argv[1])
questions = ["What does itertools.chain do?", "Where is sqrt?", "Hi!"]
prompts = [
    tokenizer.apply_chat_template([{{"role": "user", "content": p}}], add_generation_prompt=True) for p in questions
]
result = batch_generate(model, tokenizer, prompts, verbose=False, return_prompt_caches=True)
print(result.texts)
again = [tokenizer.apply_chat_template([{{"role": "user", "content": "More?"}}], add_generation_prompt=True)] * 3
print(batch_generate(model, tokenizer, again, verbose=False, prompt_caches=result.caches, max_tokens=8).texts)
"""

CONVERT = """
import os, sys
from {lm} import convert, generate, load

target = os.path.join(sys.argv[2], "quantised")
convert(sys.argv[1], mlx_path=target, quantize=True, q_bits=8, q_group_size=32)
model, tokenizer = load(target)
prompt = tokenizer.apply_chat_template([{{"role": "user", "content": "Where is sqrt?"}}], add_generation_prompt=True)
print(generate(model, tokenizer, prompt=prompt))
"""

SCRIPTS = {"answer": ANSWER, "stream": STREAM, "sampled": SAMPLED, "chat": CHAT, "batch": BATCH}

# Put in front of a script: a Python on which MLX was never installed.
WITHOUT_MLX = """
import importlib.machinery as machinery

def found(name, path=None, target=None, real=machinery.PathFinder.find_spec):
    return None if name.partition(".")[0] in ("mlx", "mlx_lm") else real(name, path, target)

machinery.PathFinder.find_spec = staticmethod(found)
try:
    import mlx.core
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("MLX is not hidden")
"""
