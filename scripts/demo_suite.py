"""The held-out suite of the demo model: chat requests and the answers they must get.

Drawn with another seed from the other side of the split of `demo_words.held_out`, so no word, pair of
operands or set of values in it was ever trained on; `prove` replays the training to show it.
`python scripts/demo_suite.py > suite.jsonl` writes it.
"""

import json
import sys

import demo_data
import demo_words
from demo_words import Source

SEED = 20260
# How many requests of each group: 1,000 together.
GROUPS = {"arithmetic": 250, "words": 280, "sort numbers": 50, "json": 80, "json schema": 80, "tool call": 110,
          "answer from result": 50, "memory": 60, "decline": 40}


def render(turn, thinking=False):
    """A finished turn as chat messages."""
    messages = [{"role": "user", "content": turn.user}]
    if turn.call:
        name, arguments = turn.call
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": demo_data.compact(arguments)}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": turn.result})
    return messages + [{"role": "assistant", "content": turn.final}]


def request(made, messages):
    out = {"messages": messages, "reasoning_effort": made.effort}
    if made.instructions:
        out["messages"] = [{"role": "system", "content": made.instructions}, *messages]
    if made.tools:
        out["tools"] = made.tools
    if made.response_format:
        form = made.response_format
        schema = {"name": form["name"], "schema": form["schema"]}
        if form["description"]:
            schema["description"] = form["description"]
        out["response_format"] = {"type": "json_schema", "json_schema": schema}
    return out


def one(source, group):
    """(request, expected): what is expected is text, an object, or a call."""
    effort = source.choice(["low", "medium", "medium", "high"])
    kind = {"json schema": "schema", "tool call": "tools", "answer from result": "tools"}.get(group, "simple")
    made = demo_data.frame(source, kind, effort)
    if group == "memory":
        made.turns = [turn for turn in demo_data.memory_turns(source)]
    elif kind == "tools":
        at = source.rng.randrange(len(made.topic))
        made.turns = [demo_data.tool_turn(source, made.topic[at], made.tools[at])]
    elif kind == "schema":
        made.turns = [demo_data.json_schema(source, made.topic)]
    else:
        make = {"arithmetic": demo_data.arithmetic, "words": demo_data.word_task, "sort numbers": demo_data.sort_numbers,
                "json": demo_data.json_free, "decline": demo_data.declined}[group]
        made.turns = [make(source)]
    *before, last = made.turns
    messages = [message for turn in before for message in render(turn)]
    ending = render(last)
    if group == "tool call":
        name, arguments = last.call
        return request(made, messages + ending[:1]), {"call": {"name": name, "arguments": arguments}}, last.kind
    expected = {"json": json.loads(last.final)} if group.startswith("json") else {"text": last.final}
    return request(made, messages + ending[:-1]), expected, last.kind


def suite(counts=None, seed=SEED):
    source, entries = Source(seed, testing=True), []
    for group, count in (counts or GROUPS).items():
        seen = set()
        while len(seen) < count:
            asked, expected, kind = one(source, group)
            text = json.dumps(asked["messages"])
            if text not in seen and (group != "memory" or kind == "remember"):
                seen.add(text)
                entries.append({"group": group, "kind": kind, "request": asked, "expected": expected})
    return entries


def users(messages):
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def prove(entries, seed, numbers, root, tokens=1800):
    """Replays the draws of a training run and counts its conversations that ask what an entry asks: none may.

    `numbers` are those of its batches, `tokens` those of a worker; `root` holds README.md and docs/ as they were then, because plain
    text takes its turn in the same draws.
    """
    import demo_text
    from demo_tokenizer import Tokenizer
    from train_demo import Batches

    asked, trained, shared = {users(entry["request"]["messages"]) for entry in entries}, 0, 0
    fill = demo_data.fill

    def watched(*arguments):
        nonlocal trained, shared
        turns = fill(*arguments)
        trained += 1
        shared += "\n".join(turn.user for turn in turns) in asked
        return turns

    demo_data.fill = watched
    batches = Batches(Tokenizer(), demo_text.passages(root), seed, tokens)
    for number in numbers:
        batches(number)
    demo_data.fill = fill
    return trained, shared


if __name__ == "__main__":
    for entry in suite():
        sys.stdout.write(json.dumps(entry, ensure_ascii=False) + "\n")
