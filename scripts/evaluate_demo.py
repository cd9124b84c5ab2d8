"""Asks the demo model the held-out suite through the `fourfold` program and prints accuracy by task.

`python scripts/evaluate_demo.py --fourfold target/release/fourfold --model demo/demo.gguf`: 1,000 requests, greedy decoding.
An answer counts if its final text, its JSON value, or the name and arguments of its call are exactly right.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import demo_suite

ROOT = Path(__file__).resolve().parent.parent


def ask(options, asked):
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(asked, file)
        file.flush()
        command = [options.fourfold, "run", options.model, "--messages", file.name, "--json", "--temp", "0", "-n", "400",
                   "-t", "1", "--date", options.date, *options.extra]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def right(answer, expected):
    if "call" in expected:
        calls = answer.get("tool_calls") or []
        wanted = expected["call"]
        if len(calls) != 1:
            return False
        call = calls[0].get("function", calls[0])
        arguments = call["arguments"]
        return call["name"] == wanted["name"] and (json.loads(arguments) if isinstance(arguments, str) else arguments) == wanted["arguments"]
    content = answer.get("content") or ""
    if "json" in expected:
        try:
            return json.loads(content) == expected["json"]
        except ValueError:
            return False
    return content.strip() == expected["text"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fourfold", default=str(ROOT / "target/release/fourfold"))
    parser.add_argument("--model", default=str(ROOT / "demo/demo.gguf"))
    parser.add_argument("--part", type=float, default=1, help="ask only this part of each group")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--date", default="2026-11-20", help="the date in the prompt, or none")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--wrong", type=int, default=0, help="show so many wrong answers")
    parser.add_argument("--prove", type=int, metavar="N", help="first replay N batches of the training and look for the prompts in them")
    parser.add_argument("extra", nargs="*", help="further options of fourfold run, after --")
    options = parser.parse_args()
    entries = demo_suite.suite({group: max(1, round(count * options.part)) for group, count in demo_suite.GROUPS.items()})
    if options.prove:
        trained, shared = demo_suite.prove(entries, 1, options.prove)
        print(f"{trained} conversations of the training replayed: {shared} of them ask what the suite asks")
    began, asked, correct, kinds, tokens = time.time(), Counter(), Counter(), Counter(), 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for entry, answer in zip(entries, pool.map(lambda entry: ask(options, entry["request"]), entries)):
            fine = right(answer, entry["expected"])
            asked[entry["group"]] += 1
            correct[entry["group"]] += fine
            kinds[entry["group"], entry["kind"], fine] += 1
            tokens += answer.get("usage", {}).get("completion_tokens", 0)
            if not fine and options.wrong > 0:
                options.wrong -= 1
                print(f"wrong: {entry['request']['messages'][-1]['content']!r} gave {answer.get('content')!r} {answer.get('tool_calls')}, wanted {entry['expected']}; thought {answer.get('reasoning')!r}")
    if options.json:
        print(json.dumps({group: {"asked": asked[group], "right": correct[group]} for group in asked}))
        return
    print("| task | asked | right | accuracy |\n|---|---:|---:|---:|")
    for group in asked:
        print(f"| {group} | {asked[group]} | {correct[group]} | {correct[group] / asked[group]:.1%} |")
    print(f"| all | {asked.total()} | {correct.total()} | {correct.total() / asked.total():.1%} |")
    print(f"\n{tokens} tokens written in {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
