"""Conversations as harmony tokens, packed so that many of them share one beginning.

A packed row is a tree: the system and developer messages are the trunk, each conversation a branch, and each turn's
own thinking and answer a leaf. Harmony drops old analysis from the prompt, so the next turn sees a
re-rendered final and not the leaf. Positions are those the runner would use, and the mask of
`visible` keeps every token from seeing what its prompt would not hold.
"""

from dataclasses import dataclass, field

from demo_data import compact

MONTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def system_text(effort, date, has_functions):
    lines = "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06"
    lines += f"\nCurrent date: {date}" if date else ""
    lines += f"\n\nReasoning: {effort}\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message."
    return lines + ("\nCalls to these tools must go to the commentary channel: 'functions'." if has_functions else "")


def function_text(function):
    lines = [f"// {function['description']}", f"type {function['name']} = (_: {{"]
    for name, schema in function["parameters"]["properties"].items():
        if "description" in schema:
            lines.append(f"// {schema['description']}")
        kind = " | ".join(f'"{option}"' for option in schema["enum"]) if "enum" in schema else schema["type"]
        lines.append(f"{name}: {kind},")
    return "\n".join(lines + ["}) => any;"])


def developer_text(conversation, heading=True):
    """The developer message, or None. `heading`: whether a lone response format stands under `# Instructions`."""
    sections = []
    form = conversation.response_format
    if conversation.instructions or (form and heading):
        sections.append("# Instructions")
    if conversation.instructions:
        sections.append(conversation.instructions)
    if form:
        described = f"// {form['description']}\n" if form["description"] else ""
        response = f"# Response Formats\n\n## {form['name']}\n\n{described}{compact(form['schema'])}"
    if conversation.tools:
        functions = "\n\n".join(function_text(tool["function"]) for tool in conversation.tools)
        sections.append(f"# Tools\n\n## functions\n\nnamespace functions {{\n\n{functions}\n\n}} // namespace functions")
    if form:
        sections.append(response)
    return "\n\n".join(sections) or None


class Writer:
    """Writes messages as token ids."""

    def __init__(self, tokenizer):
        self.encode = tokenizer.encode
        self.special = {name[2:-2]: token for name, token in tokenizer.specials.items()}

    def header(self, role, channel=None, constrain=None):
        ids = [self.special["start"], *self.encode(role)]
        if channel:
            ids += [self.special["channel"], *self.encode(channel)]
        if constrain:
            ids += [self.special["constrain"], *self.encode(constrain)]
        return ids + [self.special["message"]]

    def message(self, role, text, channel=None, end="end", constrain=None):
        return self.header(role, channel, constrain) + self.encode(text) + [self.special[end]]

    def system(self, effort, date, has_functions):
        return self.message("system", system_text(effort, date, has_functions))

    def trunk(self, conversation, date, heading=True):
        """Everything before the first turn."""
        developer = developer_text(conversation, heading)
        ids = self.system(conversation.effort, date, bool(conversation.tools))
        return ids + (self.message("developer", developer) if developer else [])

    def history(self, turn, thoughts, as_written=False):
        """The finished part of a turn as later prompts hold it: without analysis unless the turn still runs.

        A call stands there as a client sends it back, or as it was written, which is what `fourfold chat` keeps.
        """
        ids = self.message("assistant", thoughts, "analysis") if thoughts else []
        if turn.call:
            name, arguments = turn.call
            sent_back = self.message(f"assistant to=functions.{name}", compact(arguments), "commentary ", "call", "json")
            ids += (self.sampled_call(turn) if as_written else sent_back) + self.result(turn)
        return ids

    def result(self, turn):
        return self.message(f"functions.{turn.call[0]} to=assistant", turn.result, "commentary")

    def sampled_call(self, turn):
        """What the model writes itself: the recipient after the channel."""
        name, arguments = turn.call
        return self.message("assistant", compact(arguments), f"commentary to=functions.{name} ", "call", "json")


@dataclass
class Branch:
    """Tokens of one conversation; `leaf` 0 is history, which all later tokens see."""

    ids: list = field(default_factory=list)
    positions: list = field(default_factory=list)
    leaves: list = field(default_factory=list)
    learned: list = field(default_factory=list)  # 1 where the model writes the token
    kinds: list = field(default_factory=list)  # what each leaf, from 1 on, is an answer to

    def add(self, ids, start, leaf, learned):
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.leaves += [leaf] * len(ids)
        self.learned += [learned] * len(ids)
        return start + len(ids)


def branch(writer, conversation, rng):
    """The turns of a conversation; its system and developer messages are the trunk."""
    made, at, leaf = Branch(), 0, 0
    open_assistant = [writer.special["start"], *writer.encode("assistant")]
    skip = len(open_assistant)

    def write(ids, start):
        """A leaf of the model's own tokens, whose first `<|start|>assistant` the prompt supplies."""
        nonlocal leaf
        leaf += 1
        end = made.add(ids[:skip], start, leaf, 0)
        return made.add(ids[skip:], end, leaf, 1)

    for index, turn in enumerate(conversation.turns):
        at = made.add(writer.message("user", turn.user), at, 0, 0)
        thoughts = turn.thoughts.get(conversation.effort)
        analysis = writer.message("assistant", thoughts, "analysis") if thoughts else []
        final = lambda end: writer.message("assistant", turn.final, "final", end)
        after = writer.message("assistant", turn.after, "analysis") if turn.after and conversation.effort == "high" else []
        if turn.call and rng.random() < 0.5:  # the sampled tokens are kept, as a runner with a cache does
            end = write(analysis + writer.sampled_call(turn), at)
            end = made.add(writer.result(turn), end, leaf, 0)
            opened = made.add(open_assistant, end, leaf, 0)
            made.add((after + final("return"))[skip:], opened, leaf, 1)
            made.kinds.append("call and answer")
        elif turn.call:  # the call comes back re-rendered, as a client sends it
            write(analysis + writer.sampled_call(turn), at)
            kept = thoughts if rng.random() < 0.5 else None
            leaf += 1
            end = made.add(writer.history(turn, kept), at, leaf, 0)
            opened = made.add(open_assistant, end, leaf, 0)
            made.add((after + final("return"))[skip:], opened, leaf, 1)
            made.kinds += ["call", "answer from result"]
        else:
            write(analysis + final("return"), at)
            made.kinds.append(turn.kind)
        if index + 1 < len(conversation.turns):
            at = made.add(writer.history(turn, None, rng.random() < 0.5) + final("end"), at, 0, 0)
    return made


def random_date(rng):
    if rng.random() < 0.25:
        return None
    month = rng.randint(1, 12)
    return f"{rng.randint(2024, 2029)}-{month:02}-{rng.randint(1, MONTHS[month - 1]):02}"
