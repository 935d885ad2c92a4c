"""Makes a model that nobody has trained: a Llama of two layers with random weights, a tokenizer of bytes, and a template.

    python tests/vllm/tiny.py FOLDER [--layers N] [--hidden N] [--heads N]

Run by vLLM's own interpreter, which has what it takes; with larger numbers it makes one that fills a GPU. `FOLDER/lora` is an
adapter for it, as random as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

TEMPLATE = """\
{%- if tools %}<|tools|>{{ tools | tojson }}{% endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content or '' }}
{%- if not loop.last or message.role != 'assistant' %}<|end|>{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% endif -%}
"""
SPECIAL = ("<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|tools|>")
RANK = 8


def tokenizer(folder: Path) -> int:
    """A token for each byte, and some that say who speaks; how many there are."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made: Any = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(one, special=True) for one in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[1]
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return len(letters) + len(SPECIAL)


def model(folder: Path, tokens: int, layers: int, hidden: int, heads: int) -> None:
    """The weights, drawn from a fixed seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=8192,
        bos_token_id=tokens - len(SPECIAL),
        eos_token_id=tokens - len(SPECIAL) + 1,
        torch_dtype="bfloat16",
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def adapter(folder: Path, layers: int, hidden: int) -> None:
    """An adapter of the queries, by the file format of peft."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": 64, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(
        json.dumps({**said, "task_type": "CAUSAL_LM", "base_model_name_or_path": ""})
    )
    name = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    weights = {}
    for layer in range(layers):
        weights[name.format(layer, "A")] = torch.randn(RANK, hidden, dtype=torch.bfloat16)
        weights[name.format(layer, "B")] = torch.randn(hidden, RANK, dtype=torch.bfloat16)
    save_file(weights, str(folder / "adapter_model.safetensors"))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, default in (("layers", 2), ("hidden", 128), ("heads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    model(args.folder, tokenizer(args.folder), args.layers, args.hidden, args.heads)
    adapter(args.folder / "lora", args.layers, args.hidden)


if __name__ == "__main__":
    main()
