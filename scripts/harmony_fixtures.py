#!/usr/bin/env python3
"""Golden renderings and parses of the harmony format, made by the reference renderer.

    python3 -m venv venv && venv/bin/pip install oss-harmony==0.0.11
    venv/bin/python scripts/harmony_fixtures.py tests/fixtures/harmony

Writes render.json (conversations and their tokens), schemas.json (tool schemas and their declarations) and parse.json
(sampled tokens and the messages they are). Two things are not taken from the reference as it stands: which thinking is dropped
(its rule keeps thinking that the model was trained without) and where the recipient of a tool result stands (it follows the
role in OpenAI's own test data, which is reached here by making it part of the name).
"""

import json
import pathlib
import random
import sys

from openai_harmony import (
    Author, Conversation, DeveloperContent, Message, ReasoningEffort, RenderConversationConfig, Role, SystemContent,
    ToolDescription, ToolNamespaceConfig, load_harmony_encoding,
)

ENCODING = load_harmony_encoding("HarmonyGptOss")
WORDS = "alpha beta gamma city unit label quick größe 東京 naïve 42 it's don't x/y {z} <|end|> a:b".split()


def words(rng, low, high):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))


# Schemas: only what the reference renders without losing meaning.


def schema(rng, depth, in_union=False):
    kind = rng.choice(["string", "string", "enum", "integer", "number", "boolean", "array", "object", "types"])
    if depth <= 0 and kind in ("array", "object"):
        kind = "string"
    out = {}
    if kind == "enum":
        out = {"type": "string", "enum": [rng.choice(WORDS) + str(i) for i in range(rng.randint(1, 3))]}
    elif kind == "types":
        out = {"type": rng.choice([["string", "null"], ["integer", "string"], ["string"], ["number", "boolean", "null"]])}
    elif kind == "array":
        out = {"type": "array"}
        if rng.random() < 0.8:
            out["items"] = schema(rng, depth - 1, in_union=True)
            # The reference forgets that items can be null.
            out["items"].pop("nullable", None)
    elif kind == "object":
        out = {"type": "object"}
        if rng.random() < 0.9:
            out["properties"] = properties(rng, depth - 1)
            out["required"] = [name for name in out["properties"] if rng.random() < 0.5]
    else:
        out = {"type": kind}
    # The reference takes a null anywhere inside for the null of the whole.
    can_be_null = kind in ("string", "enum", "integer", "number", "boolean", "array") and "null" not in json.dumps(out)
    if can_be_null and rng.random() < 0.15:
        out["nullable"] = True
    if not in_union and rng.random() < 0.5:
        out["description"] = words(rng, 1, 5)
    return out


def union(rng, depth):
    out = {"oneOf": []}
    for _ in range(rng.randint(1, 3)):
        variant = schema(rng, depth - 1, in_union=True)
        if rng.random() < 0.4:
            variant["description"] = words(rng, 1, 3)
        if rng.random() < 0.2 and variant["type"] == "string":
            variant["default"] = rng.choice(variant.get("enum", ["some"]))
        out["oneOf"].append(variant)
    if rng.random() < 0.5:
        # Were it the first variant's description as well, the reference would write neither.
        out["description"] = "One of: " + words(rng, 1, 5)
    return out


def properties(rng, depth):
    out = {}
    for index in range(rng.randint(0, 4)):
        value = union(rng, depth) if rng.random() < 0.2 else schema(rng, depth)
        if rng.random() < 0.2:
            value["title"] = words(rng, 1, 2)
        if rng.random() < 0.2:
            value["examples"] = [words(rng, 1, 2) for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.3:
            kind = value.get("type")
            value["default"] = (
                rng.choice(value["enum"]) if "enum" in value
                else {"string": "plain", "integer": 3, "number": 2.5, "boolean": True, "array": ["a", 1, None],
                      "object": {"k": [1, "2"]}}.get(kind) if isinstance(kind, str)
                else None
            )
        out[f"{rng.choice(['name', 'city', 'unit', '_x', 'größe'])}{index}"] = value
    return out


def parameters(rng, depth=3):
    chance = rng.random()
    if chance < 0.05:
        return None
    if chance < 0.1:
        return {}
    out = {"type": "object", "properties": properties(rng, depth)}
    out["required"] = [name for name in out["properties"] if rng.random() < 0.5]
    if rng.random() < 0.3:
        out["description"] = words(rng, 1, 4)
    return out


def declaration(tool):
    content = DeveloperContent.new().with_function_tools([tool])
    text = ENCODING.decode(ENCODING.render(Message.from_role_and_content(Role.DEVELOPER, content)))
    return text.split("namespace functions {\n\n", 1)[1].rsplit("\n\n} // namespace functions", 1)[0]


def schemas(rng):
    out = []
    for index in range(120):
        description = words(rng, 0, 6) if index % 5 else "Two lines.\n\nThe last."
        tool = ToolDescription.new("call_me", description, parameters(rng))
        out.append({"description": description, "parameters": tool.parameters, "text": declaration(tool)})
    return out


# Conversations.


def tools(rng, count):
    return [ToolDescription.new(f"tool_{index}", words(rng, 0, 5), parameters(rng, 1)) for index in range(count)]


def tool_result(name, text, channel):
    # As "NAME to=assistant" the recipient stands behind the role.
    return Message.from_author_and_content(Author.new(Role.TOOL, f"{name} to=assistant"), text).with_channel(channel)


def said(channel, text):
    return Message.from_role_and_content(Role.ASSISTANT, text).with_channel(channel)


def system(rng, index):
    content = SystemContent.new().with_reasoning_effort(rng.choice(list(ReasoningEffort)))
    if index % 3:
        content = content.with_conversation_start_date("2025-06-28")
    if index % 7 == 3:
        content = content.with_model_identity("You are a careful librarian.")
    if index % 4 == 1:
        content = content.with_tools(ToolNamespaceConfig(name="shelf", description="Books.\nAnd maps.", tools=tools(rng, 2)))
    if index % 4 == 2:
        content = content.with_tools(ToolNamespaceConfig(name="shelf", description=None, tools=tools(rng, 1)))
        content = content.with_tools(ToolNamespaceConfig(name="calc", description="Takes plain text.\nNo more.", tools=[]))
    return Message.from_role_and_content(Role.SYSTEM, content)


def conversation(rng, index):
    messages = [system(rng, index)]
    functions = tools(rng, rng.randint(0, 3))
    if functions or rng.random() < 0.6:
        content = DeveloperContent.new()
        if rng.random() < 0.8 or not functions:
            content = content.with_instructions(rng.choice(["Be brief.", "Line one.\n\nLine three.\n", words(rng, 3, 9), ""]))
        if functions:
            content = content.with_function_tools(functions)
        messages.append(Message.from_role_and_content(Role.DEVELOPER, content))
    for turn in range(rng.randint(0, 4)):
        author = Author(role=Role.USER, name="ada" if rng.random() < 0.1 else None)
        messages.append(Message.from_author_and_content(author, words(rng, 0, 12)))
        for _ in range(rng.randint(0, 2) if functions else 0):
            if rng.random() < 0.7:
                messages.append(said("analysis", words(rng, 1, 9)))
            if rng.random() < 0.4:
                messages.append(said("commentary", words(rng, 1, 5)))
            name = f"functions.{rng.choice(functions).name}"
            call = said("commentary", json.dumps({"q": words(rng, 0, 3)})).with_recipient(name)
            messages.append(call.with_content_type("<|constrain|>json"))
            if rng.random() < 0.8:
                messages.append(tool_result(name, words(rng, 0, 9), "commentary"))
        if rng.random() < 0.7:
            messages.append(said("analysis", words(rng, 1, 9)))
        if rng.random() < 0.8:
            messages.append(said("final", words(rng, 0, 9)))
    return messages


def kept(messages):
    """All messages but the thinking before the last answer."""
    finals = [index for index, message in enumerate(messages) if message.channel == "final"]
    last = finals[-1] if finals else -1
    return [message for index, message in enumerate(messages) if message.channel != "analysis" or index > last]


def conversations(rng):
    out = []
    for index in range(48):
        messages = conversation(rng, index)
        ids = ENCODING.render_conversation_for_completion(
            Conversation.from_messages(kept(messages)), Role.ASSISTANT, RenderConversationConfig(auto_drop_analysis=False)
        )
        out.append({"messages": [message.to_dict() for message in messages], "ids": ids})
    return out


# Turns as the model samples them, all well formed.


def turn(rng):
    messages = []
    if rng.random() < 0.8:
        messages.append(said("analysis", words(rng, 1, 12)))
    if rng.random() < 0.3:
        messages.append(said("commentary", words(rng, 1, 6)))
    if rng.random() < 0.4:
        call = said("commentary", json.dumps({"q": words(rng, 0, 3)}, ensure_ascii=False)).with_recipient("functions.f")
        messages.append(call.with_content_type("<|constrain|>json"))
    else:
        messages.append(said("final", words(rng, 0, 20)))
    return messages


def turns(rng):
    out = []
    for _ in range(40):
        ids = []
        for message in turn(rng):
            ids += ENCODING.render(message)
        ids = ids[2:]  # the prompt ends with <|start|>assistant
        if ids[-1] == 200007:
            ids[-1] = 200002
        parsed = ENCODING.parse_messages_from_completion_tokens(ids, Role.ASSISTANT)
        out.append({
            "ids": ids,
            "messages": [
                {"channel": message.channel, "recipient": message.recipient, "text": message.content[0].text}
                for message in parsed
            ],
        })
    return out


def main():
    folder = pathlib.Path(sys.argv[1])
    rng = random.Random(20250805)
    for name, make in [("schemas", schemas), ("render", conversations), ("parse", turns)]:
        rows = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in make(rng)]
        (folder / f"{name}.json").write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
