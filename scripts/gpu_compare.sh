#!/usr/bin/env bash
# On a machine with an NVIDIA card: builds for CUDA and for Vulkan, runs the tests on the card, and measures a model
# whole on the card and with a 12 GiB budget, beside llama.cpp's llama-bench with the same split in the same run.
#
# usage: scripts/gpu_compare.sh MODEL.gguf [BUDGET]
# LLAMA_BENCH names a llama-bench; without it llama.cpp is fetched and built for CUDA in target/llama.cpp.
# Needs git, CMake, a C++ compiler, clang's library, nvcc, python3; for Vulkan the packages in docs/gpu.md.
set -euo pipefail
model=$(realpath "${1:?usage: gpu_compare.sh MODEL.gguf [BUDGET]}")
budget=${2:-12GiB}
cd "$(dirname "$0")/.."
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

if [ -z "${LLAMA_BENCH:-}" ]; then
    source=target/llama.cpp
    [ -d "$source" ] || git clone --depth 1 https://github.com/ggml-org/llama.cpp "$source"
    cmake -S "$source" -B "$source/build" -DGGML_CUDA=ON -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF
    cmake --build "$source/build" --target llama-bench -j
    LLAMA_BENCH=$source/build/bin/llama-bench
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.free --format=csv

# Prints "prompt decoding" in tokens per second, from either program's JSON.
speeds() {
    python3 - "$1" <<'PY'
import json, sys
prompt = decoding = float("nan")
for row in json.load(open(sys.argv[1])):
    mean = row["tokens_per_second"]["mean"] if "tokens_per_second" in row else row["avg_ts"]
    if row["n_gen"] == 0:
        prompt = mean
    elif row["n_prompt"] == 0:
        decoding = mean
print(f"{prompt:.1f} {decoding:.1f}")
PY
}

# row NAME JSON...: a row of the table.
row() {
    read -r prompt decoding < <(speeds "$2")
    printf '| %s | %s | %s |\n' "$1" "$prompt" "$decoding" >>"$results/table"
}

printf '| program, split | prompt 512, tokens/s | decoding 128, tokens/s |\n|---|---|---|\n' >"$results/table"
for feature in cuda vulkan; do
    binary=target/$feature/release/fourfold
    cargo build --release --features "$feature" --target-dir "target/$feature"
    CARGO_TARGET_DIR=target/$feature scripts/gpu_parity.sh "$feature"
    "$binary" devices
    for split in "--gpu-layers all" "--gpu-memory $budget"; do
        # shellcheck disable=SC2086
        "$binary" bench "$model" $split --ctx 4096 -p 512 -n 128 -r 5 -o json >"$results/ours.json"
        row "fourfold $feature, $split" "$results/ours.json"
    done
done

plan=$(target/cuda/release/fourfold devices "$model" --gpu-memory "$budget" --ctx 4096)
echo "$plan"
layers=$(sed -nE 's/.*attention of (all|the last [0-9]+ of) ([0-9]+).*/\2/p' <<<"$plan")
with=$(sed -nE 's/ *experts.* of (all|the last) ([0-9]+).*/\2/p' <<<"$plan")
for split in "-ncmoe 0" "-ncmoe $((layers - ${with:-0}))"; do
    # shellcheck disable=SC2086
    "$LLAMA_BENCH" -m "$model" -ngl 99 $split -fa 1 -p 512 -n 128 -r 5 -o json >"$results/theirs.json"
    row "llama.cpp CUDA, $split" "$results/theirs.json"
done
cat "$results/table"
