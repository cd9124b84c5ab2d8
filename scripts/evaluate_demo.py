"""Proves that the demo model never saw its suite, asks it through `fourfold eval`, and prints accuracy by task.

`python scripts/evaluate_demo.py --fourfold target/release/fourfold --model demo/demo.gguf --prove 5000`
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import demo_suite

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fourfold", default=str(ROOT / "target/release/fourfold"))
    parser.add_argument("--model", default=str(ROOT / "demo/demo.gguf"))
    parser.add_argument("--part", type=float, default=1, help="ask only this part of the suite")
    parser.add_argument("--prove", type=int, metavar="N", help="first replay N batches, drawn as a training with today's scripts and docs would, and look for the requests in them")
    parser.add_argument("extra", nargs="*", help="further options of fourfold eval, after --")
    options = parser.parse_args()
    entries = demo_suite.suite()
    if options.prove:
        trained, shared = demo_suite.prove(entries, 1, range(options.prove), ROOT)
        print(f"{trained} conversations of the training replayed: {shared} of them ask what the suite asks\n")
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.jsonl"
        suite.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
        command = [options.fourfold, "eval", options.model, "--suite", suite, "--part", str(options.part), "--json", *options.extra]
        counts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print("| task | asked | right | accuracy |\n|---|---:|---:|---:|")
    for group, score in [*counts["groups"].items(), ("all", counts["all"])]:
        print(f"| {group} | {score['asked']} | {score['right']} | {score['accuracy']:.1%} |")


if __name__ == "__main__":
    main()
