#!/usr/bin/env python3
"""Let Hugging Face transformers save a small random gpt-oss, and PEFT an adapter for it: the converter's fixtures.

    scripts/transformers_checkpoint.py convert/tests/data/transformers

Writes model/ (config.json, model.safetensors), adapter/ (adapter_config.json, adapter_model.safetensors),
tokens.json and logits.f32: float32 [tokens, vocabulary], computed by transformers in float32 from the saved model.
Needs torch, transformers and peft. The committed files were made with transformers 5.23.0 and peft 0.21.2.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import GptOssConfig, GptOssForCausalLM


def config():
    return GptOssConfig(
        vocab_size=64, hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_local_experts=4,
        num_experts_per_tok=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32, sliding_window=8,
        initial_context_length=4096, max_position_embeddings=131072, eos_token_id=2, pad_token_id=1,
        layer_types=["sliding_attention", "full_attention"], attn_implementation="eager",
        rope_parameters={"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0,
                         "beta_slow": 1.0, "original_max_position_embeddings": 4096, "truncate": False},
    )


def main():
    out = pathlib.Path(sys.argv[1])
    torch.manual_seed(0)
    model = GptOssForCausalLM(config())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.1 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * (1.0 if "sinks" in name or "embed" in name else 0.2))
    model = model.to(torch.bfloat16)
    model.save_pretrained(out / "model")

    # What was saved is BF16; the reference computes with those values in float32.
    model = GptOssForCausalLM.from_pretrained(out / "model", dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.randint(0, 64, (1, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(tokens).logits[0].numpy()
    (out / "tokens.json").write_text(json.dumps(tokens[0].tolist()) + "\n")
    logits.astype(np.float32).tofile(out / "logits.f32")

    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], init_lora_weights=False)
    torch.manual_seed(2)
    get_peft_model(model, lora).save_pretrained(out / "adapter")
    # Model cards made from templates say nothing here.
    for card in out.glob("*/README.md"):
        card.unlink()


if __name__ == "__main__":
    main()
