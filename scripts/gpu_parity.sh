#!/usr/bin/env bash
# Tests the layers on every device there is, and prints how far logits are from the processor's, by split.
# usage: scripts/gpu_parity.sh [vulkan|cuda|metal]   (GGML_VK_VISIBLE_DEVICES=0 lets Mesa's software driver take part)
set -euo pipefail
cd "$(dirname "$0")/.."
feature=${1:-vulkan}
export FOURFOLD_TEST_GPU=all
out=$(mktemp)
trap 'rm -f "$out"' EXIT
# One test after another: two processes' worth of weights on a card is too much, and the software driver uses all cores.
if ! cargo test --features "$feature" --test offload -- --nocapture --test-threads 1 >"$out" 2>&1; then
    cat "$out"
    exit 1
fi
grep -E '^\| ' "$out"
grep -E '^test result' "$out"
