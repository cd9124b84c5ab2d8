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

# row NAME JSON: a row of the table, in tokens per second, from either program's JSON; of several runs the best.
row() {
    python3 - "$@" >>"$results/table" <<'PY'
import json, sys
name, file = sys.argv[1:]
speeds = {}
for row in json.load(open(file)):
    mean = row["tokens_per_second"]["mean"] if "tokens_per_second" in row else row["avg_ts"]
    test = row["n_prompt"], row["n_gen"]
    speeds[test] = max(mean, speeds.get(test, 0))
cells = [speeds.get(test, float("nan")) for test in ((512, 0), (2048, 0), (0, 128))]
print("|", name, "|", " | ".join(f"{cell:.1f}" for cell in cells), "|")
PY
}

printf '| program, split | prompt 512 | prompt 2048 | decoding 128 |\n|---|---|---|---|\n' >"$results/table"
for feature in cuda vulkan; do
    binary=target/$feature/release/fourfold
    cargo build --release --features "$feature" --target-dir "target/$feature"
    CARGO_TARGET_DIR=target/$feature FOURFOLD_TEST_MODEL=$model scripts/gpu_parity.sh "$feature"
    "$binary" devices
    for split in "--gpu-layers all" "--gpu-memory $budget"; do
        # shellcheck disable=SC2086
        "$binary" bench "$model" $split --ctx 4096 -p 512,2048 -n 128 -r 5 -o json >"$results/ours.json"
        row "fourfold $feature, $split" "$results/ours.json"
    done
done

plan=$(target/cuda/release/fourfold devices "$model" --gpu-memory "$budget" --ctx 4096)
echo "$plan"
layers=$(sed -nE 's/.*attention of (all|the last [0-9]+ of) ([0-9]+).*/\2/p' <<<"$plan")
with=$(sed -nE 's/ *experts.* of (all|the last) ([0-9]+).*/\2/p' <<<"$plan")
for split in "-ncmoe 0" "-ncmoe $((layers - ${with:-0}))"; do
    # shellcheck disable=SC2086
    "$LLAMA_BENCH" -m "$model" -ngl 99 $split -fa 1 -ub 512,2048 -p 512,2048 -n 128 -r 5 -o json >"$results/theirs.json"
    row "llama.cpp CUDA, $split" "$results/theirs.json"
done
cat "$results/table"
