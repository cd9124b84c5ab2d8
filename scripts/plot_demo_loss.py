"""Draws the training log of the demo model as SVG: `python scripts/plot_demo_loss.py log.jsonl docs/demo-loss.svg`."""

import json
import math
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 60, 20, 30, 45


def polyline(points, color):
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{text}"/>'


def draw(entries):
    steps = [entry["step"] for entry in entries]
    losses = [entry["loss"] for entry in entries]
    low, high = math.log10(min(losses)) - 0.05, math.log10(max(losses)) + 0.05
    across = lambda step: LEFT + (WIDTH - LEFT - RIGHT) * step / max(steps)
    down = lambda loss: TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(loss)) / (high - low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for value in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5):
        if low <= math.log10(value) <= high:
            y = down(value)
            out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    stride = next(size for size in (50, 100, 200, 500, 1000, 2000) if max(steps) / size <= 10)
    for step in range(0, max(steps) + 1, stride):
        out.append(f'<text x="{across(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step}</text>')
    rounded = next((entry["step"] for entry in entries if entry["quantized"]), None)
    if rounded:
        x = across(rounded)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#888" stroke-dasharray="4 4"/>')
        out.append(f'<text x="{x + 5:.1f}" y="{TOP + 12}">through MXFP4</text>')
    out.append(polyline([(across(step), down(loss)) for step, loss in zip(steps, losses)], "#1f6fb2"))
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">step</text>')
    out.append(f'<text x="{LEFT}" y="18">loss of the tokens the model writes (nats, running mean)</text></svg>')
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    log, picture = map(Path, sys.argv[1:3])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # A resumed run repeats a few steps: the later line counts.
    picture.write_text(draw(sorted({entry["step"]: entry for entry in lines}.values(), key=lambda entry: entry["step"])))
