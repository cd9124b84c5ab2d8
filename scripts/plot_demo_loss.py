"""Draws the training log of the demo model: `python scripts/plot_demo_loss.py log.jsonl docs/demo-loss` writes .svg and .png.

Needs matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def draw(entries):
    steps = [entry["step"] for entry in entries]
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    axes.semilogy(steps, [entry["loss"] for entry in entries], color="#1f6fb2")
    # Stretches trained through the rounding: the run was resumed with a longer schedule, so there may be several.
    rounded = [entry["quantized"] for entry in entries]
    starts = [at for at in range(len(rounded)) if rounded[at] and not rounded[at - 1]]
    for number, start in enumerate(starts):
        end = next((at for at in range(start, len(rounded)) if not rounded[at]), len(rounded) - 1)
        label = "through MXFP4" if number == 0 else None
        axes.axvspan(steps[start], steps[end], color="#1f6fb2", alpha=0.12, label=label)
    axes.set_xlabel("step")
    axes.set_title("loss of the tokens the model writes (nats, running mean)", fontsize="medium")
    axes.grid(alpha=0.4)
    axes.legend()
    return figure


if __name__ == "__main__":
    log, picture = map(Path, sys.argv[1:3])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # A resumed run repeats a few steps: the later line counts.
    figure = draw(sorted({entry["step"]: entry for entry in lines}.values(), key=lambda entry: entry["step"]))
    for suffix in (".svg", ".png"):
        figure.savefig(picture.with_suffix(suffix), dpi=110, metadata={"Date": None, "Creator": None} if suffix == ".svg" else None)
