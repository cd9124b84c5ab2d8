#!/usr/bin/env python3
"""Make the fixtures of tests/model.rs: small random gpt-oss models and their logits from transformers in float32.

    scripts/reference_logits.py [tests/fixtures/reference]

For every case it writes NAME.gguf (weights in BF16, in which they are exact), NAME.tokens.u32, NAME.positions.u32 and
NAME.logits.f32 (one row of the vocabulary for each position). Needs torch, transformers and gguf from PyPI.
"""

import pathlib
import sys

import gguf
import numpy
import torch
from transformers import GptOssConfig, GptOssForCausalLM

# name, seed, layers, hidden, heads, kv heads, head_dim, experts, used, expert width, window, tokens, truncate
CASES = [
    ("groups_of_8", 1, 2, 64, 8, 1, 32, 4, 2, 32, 16, 200, False),
    ("no_groups", 2, 3, 32, 3, 3, 16, 5, 3, 48, 8, 100, False),
    ("one_expert", 3, 1, 96, 4, 2, 64, 3, 1, 64, 128, 300, False),
    ("truncated_rope", 4, 2, 64, 4, 1, 64, 4, 4, 32, 1, 80, True),
    ("beyond_4096", 5, 4, 32, 2, 1, 64, 4, 2, 32, 128, 4500, False),
]
VOCABULARY = 96


def random_model(seed, layers, hidden, heads, kv_heads, head_dim, experts, used, width, window, truncate):
    config = GptOssConfig(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads,
        head_dim=head_dim, num_local_experts=experts, num_experts_per_tok=used, intermediate_size=width,
        sliding_window=window, vocab_size=VOCABULARY, max_position_embeddings=131072, tie_word_embeddings=False,
        rope_parameters={"rope_theta": 150000.0, "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                         "original_max_position_embeddings": 4096, "truncate": truncate},
        attn_implementation="eager", pad_token_id=0, eos_token_id=0,
    )
    torch.manual_seed(seed)
    model = GptOssForCausalLM(config).float().eval()
    for name, parameter in model.named_parameters():
        # Large enough for the clamps, the sinks and the router to matter.
        spread = 1.0 if "embed" in name or "sinks" in name else 0.5 if "bias" in name else 2.0 / parameter.shape[-1] ** 0.5
        values = torch.randn_like(parameter) * spread + (1.0 if "norm" in name else 0.0)
        parameter.data = values.bfloat16().float()
    return config, model


def write_gguf(path, config, model):
    writer = gguf.GGUFWriter(path, "gpt-oss")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_expert_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_expert_count(config.num_local_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_sliding_window(config.sliding_window)
    writer.add_rope_freq_base(150000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(32.0)
    writer.add_rope_scaling_orig_ctx_len(4096)
    writer.add_bool("fourfold.rope_truncate", config.rope_parameters["truncate"])
    writer.add_tokenizer_model("none")

    def add(name, tensor):
        data = tensor.detach().float().contiguous()
        if data.dim() == 1 or "router" in name or name.endswith(".bias"):
            writer.add_tensor(name, data.numpy())
        else:
            data = data.bfloat16().view(torch.int16).numpy().view(numpy.uint8)
            writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.BF16)

    add("token_embd.weight", model.model.embed_tokens.weight)
    add("output_norm.weight", model.model.norm.weight)
    add("output.weight", model.lm_head.weight)
    for index, layer in enumerate(model.model.layers):
        prefix = f"blk.{index}."
        attention, mlp = layer.self_attn, layer.mlp
        add(prefix + "attn_norm.weight", layer.input_layernorm.weight)
        add(prefix + "post_attention_norm.weight", layer.post_attention_layernorm.weight)
        for short, linear in (("q", attention.q_proj), ("k", attention.k_proj), ("v", attention.v_proj), ("output", attention.o_proj)):
            add(f"{prefix}attn_{short}.weight", linear.weight)
            add(f"{prefix}attn_{short}.bias", linear.bias)
        add(prefix + "attn_sinks.weight", attention.sinks)
        writer.add_tensor(prefix + "ffn_gate_inp.weight", mlp.router.weight.detach().numpy())
        add(prefix + "ffn_gate_inp.bias", mlp.router.bias)
        # (experts, in, 2 * out), gate and up interleaved, become two tensors (experts, out, in).
        both, bias = mlp.experts.gate_up_proj.transpose(1, 2), mlp.experts.gate_up_proj_bias
        for start, short in enumerate(("gate", "up")):
            add(f"{prefix}ffn_{short}_exps.weight", both[:, start::2])
            add(f"{prefix}ffn_{short}_exps.bias", bias[:, start::2])
        add(prefix + "ffn_down_exps.weight", mlp.experts.down_proj.transpose(1, 2))
        add(prefix + "ffn_down_exps.bias", mlp.experts.down_proj_bias)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures/reference")
    out.mkdir(parents=True, exist_ok=True)
    for name, seed, *shape, count, truncate in CASES:
        config, model = random_model(seed, *shape, truncate)
        write_gguf(out / f"{name}.gguf", config, model)
        tokens = torch.randint(0, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed))
        positions = sorted({0, 1, shape[-1], count // 2, count - 1} | ({4095, 4096, 4097} if count > 4097 else set()))
        positions = [position for position in positions if position < count]
        with torch.no_grad():
            logits = model(tokens[None], logits_to_keep=torch.tensor(positions)).logits[0]
        tokens.numpy().astype("<u4").tofile(out / f"{name}.tokens.u32")
        numpy.array(positions, dtype="<u4").tofile(out / f"{name}.positions.u32")
        logits.float().numpy().astype("<f4").tofile(out / f"{name}.logits.f32")
        print(f"{name}: {count} tokens, logits at {positions}, up to {logits.abs().max():.2f}")


if __name__ == "__main__":
    main()
