#!/bin/sh
# Builds a fuzz target with coverage on the stable toolchain and runs it: fuzz/run.sh TARGET SECONDS
set -eu
cd "$(dirname "$0")"
target=$1
seconds=$2
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
 -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
 -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
  cargo build --release --bin "$target" --target "$(rustc -vV | sed -n 's/^host: //p')"
mkdir -p "corpus/$target"
case "$target" in
  gguf|imatrix) find ../quantize/tests/data -name '*.gguf' -size -64k -exec cp -f {} "corpus/$target/" \; ;;
  chat) sed -n 's/.*"request": \(.*\), "expected".*/\1/p' ../demo/suite.jsonl | tail -n 100 | split -l 1 - corpus/chat/seed- ;;
esac
exec "target/$(rustc -vV | sed -n 's/^host: //p')/release/$target" "corpus/$target" \
  -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=512 -timeout=5 -artifact_prefix="corpus/$target-"
