#!/usr/bin/env python3
"""Write a Hugging Face checkpoint of gpt-oss with random weights of a sane scale.

    scripts/synthetic_checkpoint.py 20b /tmp/20b                    # 13.8 GB, the published layout
    scripts/synthetic_checkpoint.py tiny /tmp/tiny --layout bf16    # un-quantized experts
    scripts/synthetic_checkpoint.py tiny /tmp/tiny --layout original
    scripts/synthetic_checkpoint.py 120b /tmp/120b --holes          # headers only, for --dry-run
    scripts/synthetic_checkpoint.py 20b /tmp/20b-2 --layers 2       # 3.3 GB: its first two layers

It is what tests, benchmarks and people without a download use. Needs numpy only.

The three layouts of one shape, tokenizer and seed hold the same model: the experts are MXFP4 blocks
that GGML's encoder reproduces, and `bf16` holds their values, so all three convert to the same tensors.

The tokenizer is the real o200k one when its ranks are found: `--vocabulary o200k_base.tiktoken`, or
the copy inside the Rust crate tiktoken-rs, a development dependency of this repository, or any copy of
that crate that cargo has fetched. `--tokenizer bytes` takes a vocabulary of the 256 bytes instead.
"""

import argparse
import base64
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
import zlib

import numpy as np

SHAPES = {
    # hidden, expert width, layers, experts, experts used, query heads, kv heads, window
    "tiny": (64, 32, 2, 4, 2, 2, 1, 8),
    # Rows of 256, 512 and 2880 elements: every block length of GGML occurs, and so do its fallbacks.
    "small": (256, 2880, 4, 8, 4, 8, 2, 128),
    "20b": (2880, 2880, 24, 32, 4, 64, 8, 128),
    "120b": (2880, 2880, 36, 128, 4, 64, 8, 128),
}
HEAD_DIM = 64
O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
MERGES_SHA256 = "fbb4bf8ec1a0dec603d12b4f4f7ff2939ff6ae1a8d94e6df0380b74b1c90f66f"
SPECIALS = (
    "<|startoftext|> <|endoftext|> <|reserved_200000|> <|reserved_200001|> <|return|> <|constrain|> "
    "<|reserved_200004|> <|channel|> <|start|> <|end|> <|message|> <|reserved_200009|> <|reserved_200010|> "
    "<|reserved_200011|> <|call|> <|reserved_200013|> <|reserved_200014|> <|reserved_200015|> "
    "<|reserved_200016|> <|reserved_200017|> <|endofprompt|>"
).split()
PIECES = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
])
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|start|>{{ message.role }}{% if message.role == "assistant" %}<|channel|>final{% endif %}<|message|>{{ message.content }}<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}
"""


# ------------------------------------------------------------------------------------------ tokenizer

def find_ranks(given):
    """The path of o200k_base.tiktoken, or None."""
    if given:
        return pathlib.Path(given)
    root = pathlib.Path(__file__).resolve().parent.parent
    inside = "assets/o200k_base.tiktoken"
    try:
        found = subprocess.run(["cargo", "metadata", "--format-version", "1", "--offline"],
                               cwd=root, capture_output=True, check=True).stdout
        for package in json.loads(found)["packages"]:
            if package["name"] == "tiktoken-rs":
                return pathlib.Path(package["manifest_path"]).parent / inside
    except (OSError, subprocess.CalledProcessError):
        pass
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    return next(iter(sorted(home.glob(f"registry/src/*/tiktoken-rs-*/{inside}"))), None)


def byte_characters():
    """Byte -> printable character, the table that GPT-2 introduced."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


def merges_of(ranks):
    """For every token in rank order, each split into two tokens, sorted by the ranks of its halves."""
    merges = []
    for token in ranks:
        splits = ((ranks.get(token[:cut]), ranks.get(token[cut:]), cut) for cut in range(1, len(token)))
        for _, _, cut in sorted(split for split in splits if None not in split[:2]):
            merges.append((token[:cut], token[cut:]))
    return merges


def tokenizer(kind, vocabulary):
    """tokenizer.json, tokenizer_config.json and the ids of the special tokens."""
    if kind == "o200k":
        path = find_ranks(vocabulary)
        if path is None or not path.is_file():
            sys.exit("the o200k ranks were not found: run `cargo fetch` in the repository, name the file with "
                     "--vocabulary, or take --tokenizer bytes")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != O200K_SHA256:
            sys.exit(f"{path}: not the published o200k_base.tiktoken (its sha256 differs)")
        lines = (line.split() for line in data.splitlines())
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    else:
        # The single bytes, in the order that o200k gives them too: the printable ones first.
        ranks = {bytes([byte]): rank for rank, byte in enumerate(byte_characters())}
    to_character = byte_characters()
    spell = lambda token: "".join(map(to_character.__getitem__, token))
    merges = [[spell(left), spell(right)] for left, right in merges_of(ranks)]
    if kind == "o200k":
        joined = "\n".join(" ".join(merge) for merge in merges).encode()
        assert hashlib.sha256(joined).hexdigest() == MERGES_SHA256, "the merges differ from the published ones"
    ids = {text: len(ranks) + index for index, text in enumerate(SPECIALS)}
    added = [{"id": token_id, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for text, token_id in ids.items()]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Isolated", "invert": False}
    tokenizer_json = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {spell(token): rank for token, rank in ranks.items()}, "merges": merges},
    }
    named = {"bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>"}
    tokenizer_config = {
        "added_tokens_decoder": {str(row["id"]): {key: row[key] for key in row if key != "id"} for row in added},
        **named, "clean_up_tokenization_spaces": False, "extra_special_tokens": {},
        "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 10**30 + 19884624838656,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return tokenizer_json, tokenizer_config, named, ids


# ------------------------------------------------------------------------------------------ weights

def to_bf16(values):
    """float32 -> BF16 bits, round to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_mxfp4(values):
    """float32 [groups, 32] -> blocks [groups, 16] in the checkpoint's nibble order, scales [groups]."""
    largest = np.abs(values).max(axis=1)
    exponent = np.floor(np.log2(largest)).astype(np.int32) - 2
    scaled = np.abs(values) / np.exp2(exponent)[:, None].astype(np.float32)
    # Codes 0..7 stand for 0 .5 1 1.5 2 3 4 6; a tie goes to the smaller, and zero has no sign.
    codes = np.searchsorted(np.array([.25, .75, 1.25, 1.75, 2.5, 3.5, 5.]), scaled, side="left").astype(np.uint8)
    codes |= ((values < 0) & (codes > 0)).astype(np.uint8) << 3
    return codes[:, 0::2] | codes[:, 1::2] << 4, (exponent + 127).astype(np.uint8)


def from_mxfp4(blocks, scales):
    """Blocks [..., groups, 16] and scales [..., groups] -> float32 [..., groups * 32]."""
    table = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6], np.float32)
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*scales.shape, 32)
    values = np.ldexp(table[codes], scales[..., None].astype(np.int32) - 127)
    return values.reshape(*scales.shape[:-1], -1)


class Noise:
    """One block of random numbers, drawn once; every tensor is cut from it at places of its own.

    Drawing 20 billion numbers would take many minutes and teach nothing more. A tensor longer than the
    block starts each round at a new place, so no two rows of a matrix are alike.
    """

    GROUPS = 1 << 17  # 4 million weights

    def __init__(self, seed):
        self.seed = seed
        normal = np.random.default_rng(seed).standard_normal((self.GROUPS, 32), dtype=np.float32)
        self.normal = normal.reshape(-1)
        # A weight of standard deviation 0.02 keeps a vector of length 1 per element about that long.
        self.blocks, self.scales = to_mxfp4(normal * np.float32(0.02))
        self.rounded = {}

    def cuts(self, name, count, unit):
        """Slices of the block that together hold `count` items, `unit` of them to a group."""
        total, state, done = self.GROUPS * unit, zlib.crc32(name.encode(), self.seed), 0
        while done < count:
            state = (state * 1664525 + 1013904223) % 2**32
            start = state % self.GROUPS * unit
            length = min(count - done, total - start)
            yield slice(start, start + length)
            done += length

    def dense(self, name, count, mean, deviation):
        """BF16 bits of `count` normal numbers, in pieces."""
        key = (mean, deviation)
        if key not in self.rounded:
            self.rounded[key] = to_bf16(np.float32(mean) + self.normal * np.float32(deviation))
        return (self.rounded[key][cut] for cut in self.cuts(name, count, 32))

    def expert_blocks(self, name, groups):
        """Bytes of `groups` blocks, in pieces."""
        return (self.blocks[cut].reshape(-1) for cut in self.cuts(name, groups, 1))

    def expert_scales(self, name, groups):
        """The scale bytes of the same groups."""
        return (self.scales[cut] for cut in self.cuts(name, groups, 1))

    def expert_values(self, name, rows, columns):
        """The same groups as BF16 bits [columns, rows]: one expert of an un-quantized checkpoint."""
        groups = rows * columns // 32
        blocks = np.concatenate(list(self.expert_blocks(name, groups))).reshape(rows, -1, 16)
        scales = np.concatenate(list(self.expert_scales(name, groups))).reshape(rows, -1)
        return np.ascontiguousarray(to_bf16(from_mxfp4(blocks, scales)).T)


def tensors(noise, layout, shape, vocab_size):
    """Every tensor as (name, dtype, shape, pieces); pieces() yields its bytes as arrays."""
    hidden, width, layers, experts, _, heads, kv_heads, _ = shape
    original = layout == "original"

    def dense(name, source, *dims, mean=0.0, deviation=0.02):
        """`source` names the parts a tensor is made of, so that a fused q, k, v equals the three."""
        def pieces():
            for part, rows in source:
                yield from noise.dense(part, rows * int(np.prod(dims[1:])), mean, deviation)
        return name, "BF16", dims, pieces

    def one(key, name, *dims, **scale):
        return dense(name, [(key, dims[0])], *dims, **scale)

    def expert_matrix(key, name, rows, columns):
        parts = [f"{key}.{expert}" for expert in range(experts)]
        groups = rows * columns // 32
        if layout == "bf16":
            yield (name, "BF16", (experts, columns, rows),
                   lambda: (noise.expert_values(part, rows, columns) for part in parts))
            return
        blocks, scales = (".blocks", ".scales") if original else ("_blocks", "_scales")
        yield (name + blocks, "U8", (experts, rows, columns // 32, 16),
               lambda: (piece for part in parts for piece in noise.expert_blocks(part, groups)))
        yield (name + scales, "U8", (experts, rows, columns // 32),
               lambda: (piece for part in parts for piece in noise.expert_scales(part, groups)))

    pick = lambda theirs, ours: ours if original else theirs
    norm = {"mean": 1.0, "deviation": 0.1}
    yield one("embed", pick("model.embed_tokens.weight", "embedding.weight"), vocab_size, hidden, deviation=1.0)
    for n in range(layers):
        at = pick(f"model.layers.{n}.", f"block.{n}.")
        yield one(f"{n}.norm", at + pick("input_layernorm.weight", "attn.norm.scale"), hidden, **norm)
        parts = [("q", heads * HEAD_DIM), ("k", kv_heads * HEAD_DIM), ("v", kv_heads * HEAD_DIM)]
        for suffix, dims, deviation in (("weight", (hidden,), 0.02), ("bias", (), 0.1)):
            sources = [(f"{n}.{part}.{suffix}", rows) for part, rows in parts]
            if original:
                total = sum(rows for _, rows in parts)
                yield dense(at + f"attn.qkv.{suffix}", sources, total, *dims, deviation=deviation)
            else:
                for (part, rows), source in zip(parts, sources):
                    yield dense(at + f"self_attn.{part}_proj.{suffix}", [source], rows, *dims, deviation=deviation)
        out = at + pick("self_attn.o_proj", "attn.out")
        yield one(f"{n}.o", out + ".weight", hidden, heads * HEAD_DIM)
        yield one(f"{n}.o.bias", out + ".bias", hidden)
        yield one(f"{n}.sinks", at + pick("self_attn.sinks", "attn.sinks"), heads, deviation=1.0)
        yield one(f"{n}.post", at + pick("post_attention_layernorm.weight", "mlp.norm.scale"), hidden, **norm)
        router = at + pick("mlp.router", "mlp.gate")
        yield one(f"{n}.router", router + ".weight", experts, hidden)
        yield one(f"{n}.router.bias", router + ".bias", experts)
        gate_up = at + pick("mlp.experts.gate_up_proj", "mlp.mlp1")
        down = at + pick("mlp.experts.down_proj", "mlp.mlp2")
        yield from expert_matrix(f"{n}.up", gate_up + pick("", "_weight"), 2 * width, hidden)
        yield one(f"{n}.up.bias", gate_up + "_bias", experts, 2 * width, deviation=0.1)
        yield from expert_matrix(f"{n}.down", down + pick("", "_weight"), hidden, width)
        yield one(f"{n}.down.bias", down + "_bias", experts, hidden, deviation=0.1)
    yield one("norm", pick("model.norm.weight", "norm.scale"), hidden, **norm)
    yield one("head", pick("lm_head.weight", "unembedding.weight"), vocab_size, hidden)


# ------------------------------------------------------------------------------------------ files

def size_of(tensor):
    _, dtype, dims, _ = tensor
    return int(np.prod(dims)) * (2 if dtype == "BF16" else 1)


def write_shard(path, shard, holes):
    """One safetensors file: length of the header, header, data."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor in shard:
        name, dtype, dims, _ = tensor
        header[name] = {"dtype": dtype, "shape": dims, "data_offsets": [offset, offset + size_of(tensor)]}
        offset += size_of(tensor)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if holes:
            file.truncate(8 + len(text) + offset)
            return
        for *_, pieces in shard:
            for piece in pieces():
                file.write(memoryview(piece).cast("B"))


def write_weights(folder, every, layout, shard_bytes, holes):
    """The shards, named as OpenAI names them, and the index if there is more than one."""
    shards, filled = [[]], 0
    for tensor in every:
        if shards[-1] and filled + size_of(tensor) > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += size_of(tensor)
    if len(shards) == 1:
        names = ["model.safetensors"]
    elif layout == "original":
        names = [f"model--{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    else:  # from zero, and "of" names the last one
        names = [f"model-{i:05}-of-{len(shards) - 1:05}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards):
        write_shard(folder / name, shard, holes)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(map(size_of, every))},
                 "weight_map": {tensor[0]: name for name, shard in zip(names, shards) for tensor in shard}}
        write_json(folder / "model.safetensors.index.json", index)


def write_json(path, value, indent=2):
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def config(layout, shape, vocab_size, ids):
    """config.json, as published."""
    hidden, width, layers, experts, used, heads, kv_heads, window = shape
    if layout == "original":
        return {"num_hidden_layers": layers, "num_experts": experts, "experts_per_token": used,
                "vocab_size": vocab_size, "hidden_size": hidden, "intermediate_size": width, "swiglu_limit": 7.0,
                "head_dim": HEAD_DIM, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
                "sliding_window": window, "initial_context_length": 4096, "rope_theta": 150000,
                "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1, "rope_ntk_beta": 32}
    kinds = ["sliding_attention", "full_attention"]
    result = {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
        "eos_token_id": ids["<|return|>"], "experts_per_token": used, "head_dim": HEAD_DIM, "hidden_act": "silu",
        "hidden_size": hidden, "initial_context_length": 4096, "initializer_range": 0.02,
        "intermediate_size": width, "layer_types": [kinds[i % 2] for i in range(layers)],
        "max_position_embeddings": 131072, "model_type": "gpt_oss", "num_attention_heads": heads,
        "num_experts_per_tok": used, "num_hidden_layers": layers, "num_key_value_heads": kv_heads,
        "num_local_experts": experts, "output_router_logits": False, "pad_token_id": ids["<|endoftext|>"],
        "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                                           "model.embed_tokens", "lm_head"],
                                "quant_method": "mxfp4"},
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
                         "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": False},
        "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": window, "swiglu_limit": 7.0,
        "tie_word_embeddings": False, "transformers_version": "4.55.0.dev0", "use_cache": True,
        "vocab_size": vocab_size,
    }
    if layout == "bf16":
        del result["quantization_config"]
        result["dtype"] = "bfloat16"
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=pathlib.Path, help="the folder to write; it must not hold a checkpoint yet")
    parser.add_argument("--layout", choices=["mxfp4", "bf16", "original"], default="mxfp4")
    parser.add_argument("--tokenizer", choices=["o200k", "bytes", "none"], default="o200k")
    parser.add_argument("--vocabulary", help="path of o200k_base.tiktoken")
    parser.add_argument("--shard-bytes", type=float, default=4.8e9, help="start a new file after this many bytes")
    parser.add_argument("--layers", type=int, help="as many layers instead of the shape's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--holes", action="store_true", help="write headers and sizes, no weights")
    arguments = parser.parse_args()

    started = time.monotonic()
    out, layout, shape = arguments.out, arguments.layout, SHAPES[arguments.shape]
    if arguments.layers is not None:
        if arguments.layers < 1:
            parser.error("--layers must be 1 or more")
        shape = (*shape[:2], arguments.layers, *shape[3:])
    weights = out / "original" if layout == "original" else out
    if any(weights.glob("*.safetensors")):
        sys.exit(f"{weights}: holds a checkpoint already; name another folder or remove it")
    weights.mkdir(parents=True, exist_ok=True)

    if arguments.tokenizer == "none":
        vocab_size, ids = 64, {"<|return|>": 2, "<|endoftext|>": 1}
    else:
        tokenizer_json, tokenizer_config, named, ids = tokenizer(arguments.tokenizer, arguments.vocabulary)
        write_json(out / "tokenizer.json", tokenizer_json)
        write_json(out / "tokenizer_config.json", tokenizer_config)
        write_json(out / "special_tokens_map.json", named)
        write_json(out / "generation_config.json", {
            "bos_token_id": ids["<|startoftext|>"], "do_sample": True,
            "eos_token_id": [ids["<|return|>"], ids["<|endoftext|>"], ids["<|call|>"]],
            "pad_token_id": ids["<|endoftext|>"], "transformers_version": "4.55.0.dev0"})
        (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
        # The real model has 201088 rows for 200019 tokens; keep rows without a token at every size.
        vocab_size = 201088 if arguments.tokenizer == "o200k" else 320
    write_json(weights / "config.json", config(layout, shape, vocab_size, ids))

    noise = Noise(arguments.seed)
    every = list(tensors(noise, layout, shape, vocab_size))
    write_weights(weights, every, layout, arguments.shard_bytes, arguments.holes)
    if layout == "original":
        kinds = {".blocks": "FP4", ".scales": "UE8"}
        write_json(weights / "dtypes.json", {name: kinds.get(name[-7:], "BF16") for name, *_ in every})
    total, seconds = sum(map(size_of, every)), time.monotonic() - started
    print(f"{out}: {len(every)} tensors, {total / 1e9:.3f} GB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
