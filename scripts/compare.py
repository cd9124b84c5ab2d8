#!/usr/bin/env python3
"""Compare fourfold with llama.cpp on one machine, one file, one run.

    scripts/compare.py MODEL.gguf [--repetitions 3] [--depth 4096] [--avx2] [--out benches/record/<cpu>]

Builds llama.cpp from the source package of llama-cpp-python (PyPI) with native CPU flags, or, with --avx2, without
anything newer than AVX2; a build that is already in the work folder is used again. The engines take turns, because a
shared machine's speed drifts: what counts is the ratio within one run and the share of the machine's own ceilings,
which `fourfold bench` measures in the same run. Writes DATE.json, DATE.md, speed.svg and, with matplotlib, speed.png.

Needs cmake and a C++ compiler. Only the standard library is required (matplotlib for the PNG picture).
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def call(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def llama_bench(work: pathlib.Path, avx2: bool) -> pathlib.Path:
    """The llama-bench program, built on first use."""
    build = work / ("build-avx2" if avx2 else "build")
    program = build / "bin" / "llama-bench"
    if program.exists():
        return program
    work.mkdir(parents=True, exist_ok=True)
    if not list(work.glob("llama_cpp_python-*.tar.gz")):
        call(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", work, "llama-cpp-python")
    archive = max(work.glob("llama_cpp_python-*.tar.gz"))
    source = work / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    if not source.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
    flags = ["-DGGML_NATIVE=ON"]
    if avx2:
        flags = ["-DGGML_NATIVE=OFF", "-DGGML_AVX=ON", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_BMI2=ON"]
    quiet = [f"-DLLAMA_{part}=OFF" for part in ("CURL", "OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_SERVER", "BUILD_UI")]
    call("cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *flags, *quiet)
    call("cmake", "--build", build, "-j", os.cpu_count(), "--target", "llama-bench")
    return program


TESTS = ("pp512", "tg32")


def warm(model):
    """Reads the file once: what the other engine pushed out of the page cache would be read from the disk."""
    with open(model, "rb", buffering=0) as file:
        while file.read(64 << 20):
            pass


def run_llama(program, model, depth, threads):
    """Tokens per second of both tests at a depth: one load and one prompt of that depth serve both."""
    out = call(program, "-m", model, "-p", 512, "-n", 32, "-d", depth, "-t", threads, "-r", 1, "-o", "json", stderr=subprocess.DEVNULL)
    return dict(zip(TESTS, (row["avg_ts"] for row in json.loads(out))))


def run_fourfold(program, model, depth, threads, avx2):
    """The same, the ceilings measured beside it, and the instruction set."""
    environment = dict(os.environ, **({"FOURFOLD_ISA": "avx2"} if avx2 else {}))
    out = call(program, "bench", model, "-p", 512, "-n", 32, "-d", depth, "-t", threads, "-r", 1, "-o", "json",
               stderr=subprocess.DEVNULL, env=environment)
    rows = json.loads(out)
    return dict(zip(TESTS, (row["tokens_per_second"]["mean"] for row in rows))), rows[0]["ceilings"], rows[0]["isa"]


def macs_and_bytes(program, model):
    """Multiply-adds of one prompt token and bytes read for one generated token, from the file's own shapes."""
    listing = json.loads(call(program, "inspect", model, "--json"))
    meta, macs, read = listing["metadata"], 0, 0
    used, experts = meta["gpt-oss.expert_used_count"], meta["gpt-oss.expert_count"]
    for tensor in listing["tensors"]:
        size, weights = tensor["bytes"], 1
        for dim in tensor["shape"]:
            weights *= dim
        if "_exps" in tensor["name"]:
            size, weights = size * used / experts, weights * used / experts
        if tensor["name"] == "token_embd.weight":
            continue
        read += size
        if tensor["name"] != "output.weight" and len(tensor["shape"]) > 1 and not tensor["name"].endswith("bias"):
            macs += weights
    return macs, read


def cpu_name():
    with open("/proc/cpuinfo") as file:
        return re.search(r"model name\s*:\s*(.*)", file.read()).group(1).strip()


def measure(arguments):
    rival = llama_bench(arguments.work, arguments.avx2)
    ours = ROOT / "target" / "release" / "fourfold"
    call("cargo", "build", "--release", cwd=ROOT)
    macs, read = macs_and_bytes(ours, arguments.model)
    rows = []
    for depth in [0, arguments.depth] if arguments.depth else [0]:
        speeds, ceilings, isa = {test: {"fourfold": [], "llama.cpp": []} for test in TESTS}, [], ""
        for _ in range(arguments.repetitions):
            warm(arguments.model)
            mine, ceiling, isa = run_fourfold(ours, arguments.model, depth, arguments.threads, arguments.avx2)
            theirs = run_llama(rival, arguments.model, depth, arguments.threads)
            ceilings.append(ceiling)
            for test in TESTS:
                speeds[test]["fourfold"].append(mine[test])
                speeds[test]["llama.cpp"].append(theirs[test])
            print(f"depth {depth}: fourfold {mine}, llama.cpp {theirs}, {ceiling}", file=sys.stderr)
        for test, runs in speeds.items():
            bound = [c["gmac_s"] * 1e9 / macs if test == "pp512" else c["read_gb_s"] * 1e9 / read for c in ceilings]
            rows.append({"test": test, "depth": depth, "isa": isa, "ceiling": statistics.median(bound),
                         "runs": runs, **{engine: statistics.median(values) for engine, values in runs.items()}})
    return rows


def table(rows):
    lines = ["| test | fourfold t/s | llama.cpp t/s | ratio | ceiling t/s | share of ceiling |", "|---|---|---|---|---|---|"]
    for row in rows:
        name = f"{row['test']} at depth {row['depth']}"
        lines.append(f"| {name} | {row['fourfold']:.2f} | {row['llama.cpp']:.2f} | {row['fourfold'] / row['llama.cpp']:.2f} "
                     f"| {row['ceiling']:.1f} | {100 * row['fourfold'] / row['ceiling']:.0f} % |")
    return "\n".join(lines)


def svg(rows, title):
    """Bars by engine for each test; the ceiling (which ignores attention) is a line across its pair of bars."""
    width, height, left, base = 760, 340, 40, 280
    group = (width - left) / len(rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{width}" height="{height}" fill="white"/>', f'<text x="{left}" y="22" font-size="15">{title}</text>']
    for index, row in enumerate(rows):
        x, scale = left + index * group, 220 / max(row["ceiling"], row["fourfold"])
        for place, (engine, color) in enumerate((("fourfold", "#1b6ca8"), ("llama.cpp", "#b8b8b8"))):
            tall, at = row[engine] * scale, x + 15 + place * 62
            parts.append(f'<rect x="{at:.0f}" y="{base - tall:.0f}" width="54" height="{tall:.0f}" fill="{color}"/>')
            parts.append(f'<text x="{at + 27:.0f}" y="{base - tall - 5:.0f}" text-anchor="middle">{row[engine]:.1f}</text>')
        line = base - row["ceiling"] * scale
        parts.append(f'<line x1="{x + 5:.0f}" x2="{x + 147:.0f}" y1="{line:.0f}" y2="{line:.0f}" stroke="#c0392b" stroke-dasharray="5 3"/>')
        parts.append(f'<text x="{x + 146:.0f}" y="{line - 4:.0f}" text-anchor="end" fill="#c0392b" font-size="11">{row["ceiling"]:.0f}</text>')
        parts.append(f'<text x="{x + 74:.0f}" y="{base + 18}" text-anchor="middle">{row["test"]} @ {row["depth"]}</text>')
    parts.append(f'<text x="{left}" y="{height - 14}" font-size="12"><tspan fill="#1b6ca8">fourfold</tspan>, '
                 '<tspan fill="#888">llama.cpp</tspan>, tokens per second; '
                 '<tspan fill="#c0392b">dashed: what this machine could do</tspan></text></svg>')
    return "\n".join(parts)


def png(rows, title, path):
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no PNG written", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, len(rows), figsize=(9, 3.4))
    for axis, row in zip(axes, rows):
        bars = axis.bar(["fourfold", "llama.cpp"], [row["fourfold"], row["llama.cpp"]], color=["#1b6ca8", "#b8b8b8"])
        axis.bar_label(bars, fmt="%.1f")
        axis.axhline(row["ceiling"], color="#c0392b", linestyle="--")
        axis.set_title(f"{row['test']} @ {row['depth']}", fontsize=10)
        axis.set_ylim(0, 1.12 * max(row["ceiling"], row["fourfold"]))
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title + " (tokens per second; dashed: ceiling)", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--depth", type=int, default=4096, help="tokens before the second pair of tests; 0 for none")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--avx2", action="store_true", help="both engines restricted to AVX2")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "compare", help="where llama.cpp is built")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benches" / "record")
    arguments = parser.parse_args()
    rows = measure(arguments)
    commit = call("git", "rev-parse", "--short", "HEAD", cwd=ROOT).strip()
    kind = "-avx2" if arguments.avx2 else ""
    only = ", AVX2 only" if arguments.avx2 else ""
    name = f"{datetime.date.today()}-llama.cpp{kind}"
    title = f"{arguments.model.name} on {cpu_name()}, {arguments.threads} threads{only}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = (f"# fourfold {commit} beside llama.cpp\n\n{title}, {platform.system()} {platform.release()}. Medians of {arguments.repetitions} "
            "alternating runs; ceilings from the same runs (multiply-adds of the weights, bytes of the weights; attention not counted).\n\n"
            f"{table(rows)}\n")
    (arguments.out / f"{name}.md").write_text(text)
    (arguments.out / f"{name}.json").write_text(json.dumps({"commit": commit, "cpu": cpu_name(), "rows": rows}, indent=1))
    (arguments.out / f"speed{kind}.svg").write_text(svg(rows, title))
    png(rows, title, arguments.out / f"speed{kind}.png")
    print(text)


if __name__ == "__main__":
    main()
