"""Writes the trained demo model as a Hugging Face checkpoint: `python scripts/export_demo.py --state target/demo-training/state.pt`.

The experts become MXFP4 blocks and scales, everything else BF16, exactly the values that the last part of the training used.
The written file is read back and compared with the model before the folder is complete.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from demo_model import Config, Model, bf16, mxfp4, mxfp4_scaled
from demo_tokenizer import Tokenizer

# The magnitudes of the codes 0 to 7.
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
ROOT = Path(__file__).resolve().parent.parent


def interleaved(halves):
    """Rows gate 0, up 0, gate 1, up 1 ... from all gates followed by all ups."""
    gate, up = halves.chunk(2, dim=1)
    return torch.stack([gate, up], dim=2).flatten(1, 2).contiguous()


def packed(weight):
    """(blocks, scales): element 2b of a block in the low nibble of byte b, element 2b+1 in the high one."""
    exponent, _ = mxfp4_scaled(weight)
    values = mxfp4(weight).reshape(*weight.shape[:-1], -1, 32) * torch.exp2(-exponent)
    codes = torch.searchsorted(E2M1, values.abs().contiguous())
    codes = (codes + 8 * (values < 0)).to(torch.uint8)
    return codes[..., ::2] | codes[..., 1::2] << 4, (exponent[..., 0] + 127).to(torch.uint8)


def unpacked(blocks, scales):
    codes = torch.stack([blocks & 15, blocks >> 4], -1).flatten(-2).long()
    values = E2M1[codes % 8] * torch.where(codes >= 8, -1.0, 1.0) * torch.exp2(scales.float() - 127)[..., None]
    return values.flatten(-2)


def tensors(model):
    config, out = model.config, {}
    dense = lambda weight: weight.detach().to(torch.bfloat16).contiguous()
    out["model.embed_tokens.weight"] = dense(model.embedding)
    out["model.norm.weight"] = dense(model.norm)
    out["lm_head.weight"] = dense(model.head)
    widths = [config.heads * config.head_dim, config.kv_heads * config.head_dim, config.kv_heads * config.head_dim]
    for index, layer in enumerate(model.layers):
        prefix = f"model.layers.{index}."
        out[prefix + "input_layernorm.weight"] = dense(layer.attention_norm)
        out[prefix + "post_attention_layernorm.weight"] = dense(layer.moe_norm)
        for name, weight, bias in zip("qkv", layer.qkv.weight.split(widths), layer.qkv.bias.split(widths)):
            out[f"{prefix}self_attn.{name}_proj.weight"] = dense(weight)
            out[f"{prefix}self_attn.{name}_proj.bias"] = dense(bias)
        out[prefix + "self_attn.o_proj.weight"] = dense(layer.output.weight)
        out[prefix + "self_attn.o_proj.bias"] = dense(layer.output.bias)
        out[prefix + "self_attn.sinks"] = dense(layer.sinks)
        out[prefix + "mlp.router.weight"] = dense(layer.router.weight)
        out[prefix + "mlp.router.bias"] = dense(layer.router.bias)
        for name, weight, bias in [("gate_up_proj", interleaved(layer.gate_up.detach()), interleaved(layer.gate_up_bias.detach()[..., None])[..., 0]),
                                   ("down_proj", layer.down.detach(), layer.down_bias)]:
            out[f"{prefix}mlp.experts.{name}_blocks"], out[f"{prefix}mlp.experts.{name}_scales"] = packed(weight)
            out[f"{prefix}mlp.experts.{name}_bias"] = dense(bias)
            assert torch.equal(unpacked(*packed(weight)), mxfp4(weight)), name
    return out


def config_json(config, specials):
    return {
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": True, "attention_dropout": 0.0,
        "eos_token_id": specials["<|return|>"], "pad_token_id": specials["<|endoftext|>"],
        "experts_per_token": config.active, "num_experts_per_tok": config.active, "num_local_experts": config.experts,
        "head_dim": config.head_dim, "hidden_act": "silu", "hidden_size": config.hidden, "intermediate_size": config.ffn,
        "initial_context_length": config.original_context, "max_position_embeddings": int(config.original_context * config.factor),
        "initializer_range": 0.02,
        "layer_types": ["sliding_attention" if index % 2 == 0 else "full_attention" for index in range(config.layers)],
        "num_attention_heads": config.heads, "num_hidden_layers": config.layers, "num_key_value_heads": config.kv_heads,
        "output_router_logits": False, "router_aux_loss_coef": 0.01, "rms_norm_eps": config.epsilon,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": config.factor,
                         "original_max_position_embeddings": config.original_context, "rope_type": "yarn", "truncate": False},
        "rope_theta": int(config.theta), "sliding_window": config.window, "swiglu_limit": config.limit,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": config.vocabulary,
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=ROOT / "target" / "demo-training" / "state.pt")
    parser.add_argument("--out", type=Path, default=ROOT / "demo")
    options = parser.parse_args()
    tokenizer = Tokenizer()
    model = Model(Config(len(tokenizer.tokens)))
    state = torch.load(options.state)
    model.load_state_dict(state["model"])
    options.out.mkdir(parents=True, exist_ok=True)

    written = tensors(model)
    save_file(written, options.out / "model.safetensors", {"format": "pt"})
    read = load_file(options.out / "model.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in written.items())
    assert torch.equal(read["lm_head.weight"].float(), bf16(model.head.detach()))

    write = lambda name, value: (options.out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    specials = tokenizer.specials
    write("config.json", config_json(model.config, specials))
    write("generation_config.json", {
        "bos_token_id": specials["<|startoftext|>"], "do_sample": True, "pad_token_id": specials["<|endoftext|>"],
        "eos_token_id": [specials["<|return|>"], specials["<|endoftext|>"], specials["<|call|>"]]})
    write("tokenizer.json", tokenizer.tokenizer_json())
    write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|startoftext|>", "eos_token": "<|return|>",
        "pad_token": "<|endoftext|>", "clean_up_tokenization_spaces": False, "model_max_length": 131072,
        "model_input_names": ["input_ids", "attention_mask"]})
    size = sum(file.stat().st_size for file in options.out.iterdir() if file.suffix != ".gguf")
    print(f"step {state['step']}: {len(written)} tensors, {size / 1e6:.2f} MB in {options.out}")


if __name__ == "__main__":
    main()
