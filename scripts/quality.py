"""Quality by recipe on the demo model: `python scripts/quality.py [--part 1]` writes docs/quality.md, .svg and, with matplotlib, .png.

Every recipe is made from the BF16 conversion of demo/, whose experts are MXFP4 as they were trained and stay so: recipes differ in the dense
weights. Each answers the held-out suite (`fourfold eval`) and reads README.md and docs/*.md; `fourfold perplexity` compares its
predictions with those of the BF16 model computed with --exact.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ["BF16", "Q8_0", "MXFP4_MOE", "LEAN", "Q6_K", "Q5_K_M", "Q5_1", "Q5_0", "Q4_K_M", "IQ4_NL", "Q4_1", "Q4_0", "IQ4_XS", "Q3_K_M", "Q2_K"]


def fourfold(*arguments):
    command = [ROOT / "target" / "release" / "fourfold", *arguments]
    return subprocess.run([str(word) for word in command], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def measure(work, part):
    text = work / "text.md"
    text.write_text("\n".join(file.read_text() for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]))
    source, exact = work / "source.gguf", work / "exact.npy"
    fourfold("convert", ROOT / "demo", "--type", "bf16", "-o", source, "--force")
    fourfold("perplexity", source, "-f", text, "--exact", "--save-logits", exact, "--force", "--json")
    rows = []
    for recipe in RECIPES:
        model = source
        if recipe != "BF16":
            model = work / f"{recipe}.gguf"
            fourfold("quantize", source, model, recipe, "--force")
        answers = json.loads(fourfold("eval", model, "--part", part, "--json"))
        text_rate = json.loads(fourfold("perplexity", model, "-f", text, "--kl-base", exact, "--json"))
        rows.append({"recipe": recipe, "megabytes": model.stat().st_size / 1e6, "asked": answers["all"]["asked"],
                     "accuracy": answers["all"]["accuracy"], "groups": {name: group["accuracy"] for name, group in answers["groups"].items()},
                     "perplexity": text_rate["perplexity"], "kl": text_rate["base"]["kl_mean"], "top1": text_rate["base"]["top1_agreement"]})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def table(rows):
    groups = list(rows[0]["groups"])
    lines = ["| recipe | MB | right | KL | same first choice | perplexity | " + " | ".join(groups) + " |", "|---" * (6 + len(groups)) + "|"]
    for row in rows:
        cells = [row["recipe"], f"{row['megabytes']:.2f}", f"{100 * row['accuracy']:.1f} %", f"{row['kl']:.4f}", f"{100 * row['top1']:.1f} %",
                 f"{row['perplexity']:.1f}", *(f"{100 * row['groups'][name]:.0f} %" for name in groups)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def svg(rows):
    """Accuracy as bars and KL as dots on a logarithmic scale, recipes by size."""
    width, height, left, base, tall = 900, 360, 50, 270, 220
    step = (width - 2 * left) / len(rows)
    low, high = -5, 0  # powers of ten of KL
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/>']
    for power in range(low, high + 1):
        y = base - tall * (power - low) / (high - low)
        parts.append(f'<line x1="{left}" x2="{width - left}" y1="{y:.0f}" y2="{y:.0f}" stroke="#eee"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end" fill="#1b6ca8">{100 * (power - low) // (high - low)} %</text>')
        parts.append(f'<text x="{width - left + 6}" y="{y + 4:.0f}" fill="#c0392b">1e{power}</text>')
    for index, row in enumerate(rows):
        x = left + (index + 0.5) * step
        bar = tall * row["accuracy"]
        parts.append(f'<rect x="{x - 14:.0f}" y="{base - bar:.0f}" width="28" height="{bar:.0f}" fill="#1b6ca8" opacity="0.75"/>')
        dot = base - tall * (min(max(math.log10(max(row["kl"], 1e-9)), low), high) - low) / (high - low)
        parts.append(f'<circle cx="{x:.0f}" cy="{dot:.0f}" r="5" fill="#c0392b"/>')
        parts.append(f'<text x="{x:.0f}" y="{base + 16}" text-anchor="middle" font-size="10">{row["recipe"]}</text>')
        parts.append(f'<text x="{x:.0f}" y="{base + 30}" text-anchor="middle" font-size="10" fill="#666">{row["megabytes"]:.1f} MB</text>')
    parts.append(f'<text x="{left}" y="{height - 20}"><tspan fill="#1b6ca8">bars: held-out requests answered right</tspan>, '
                 '<tspan fill="#c0392b">dots: KL divergence from BF16 computed exactly</tspan></text></svg>')
    return "\n".join(parts) + "\n"


def png(rows, path):
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no PNG written", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, left = pyplot.subplots(figsize=(10, 4))
    names = [f"{row['recipe']}\n{row['megabytes']:.1f} MB" for row in rows]
    left.bar(names, [100 * row["accuracy"] for row in rows], color="#1b6ca8", alpha=0.75)
    left.set_ylabel("held-out requests right, %", color="#1b6ca8")
    left.tick_params(axis="x", labelsize=7)
    right = left.twinx()
    right.plot(names, [max(row["kl"], 1e-5) for row in rows], "o", color="#c0392b")
    right.set_yscale("log")
    right.set_ylabel("KL divergence from exact BF16", color="#c0392b")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=float, default=1, help="part of the suite to ask")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "quality")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cargo", "build", "--release"], check=True, cwd=ROOT)
    rows = measure(options.work, options.part)
    docs = ROOT / "docs"
    (docs / "quality.md").write_text(
        f"# Quality by recipe\n\nThe demo model, made from its BF16 conversion, whose experts are MXFP4 as they were trained and stay so: recipes differ in the dense weights. {rows[0]['asked']} held-out requests answered greedily, and README.md and docs/ "
        "read in pieces of 512 tokens. KL and first choice compare with the BF16 model computed with `--exact`. "
        f"Made by `scripts/quality.py`.\n\n![accuracy and KL by recipe](quality.svg)\n\n{table(rows)}\n")
    (docs / "quality.svg").write_text(svg(rows))
    png(rows, docs / "quality.png")


if __name__ == "__main__":
    main()
