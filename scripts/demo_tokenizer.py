"""The demo model's vocabulary: a byte-level BPE of about a thousand entries, built from a word list.

A learned BPE would cut the words of a task ("reverse garden") at places that depend on the word,
so a tiny model would have to learn the spelling of every piece. Here the merges come from a fixed
list of template words. Every chain of merges starts at an anchor that task words seldom contain:
a leading space, a capital letter, or a rare pair (the `ys` of `analysis`). A quoted lower-case word
is therefore spelled letter by letter, and digits never merge.
"""

import json
from functools import lru_cache

import regex

# The o200k pre-tokenizer ("gpt-4o" in GGUF files).
PRETOKENIZER = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Words merged only after a space; each also yields its prefixes as entries.
SPACED = """
are a large language model trained by cutoff date channels must be included for every message
channel calls to these tools go the any string number boolean namespace
word of in letters letter backwards from with minus plus is and my your you that it
times what many name years old lives age ones check first letters
commentary analysis final medium high low functions
tiny demonstration fourfold cannot degrees items told
numbers reverse spell count sort words can do not remember nice meet sorry please who
"""
# Words merged from their capital on, wherever they stand.
CAPITALIZED = """
You ChatGPT Open Knowledge Current Reasoning Valid Channel Calls
What Reverse Spell Count Sort How Write Add Subtract Letters Backwards Remember Instructions
Response Formats Tools Sorted The Give JSON Order
"""
# Chains of pairs for the words of message headers, which follow a special token and so have no space before them.
CHAINS = [
    "y s|ys i|ysi s|l ysis|a lysis|n alysis|a nalysis",
    "s ys|sys t|syst e|syste m",
    "s s|ss i|ssi s|a ssis|assis t|assist a|assista n|assistan t",
    "m m|mm e|mme n|o mmen|c ommen|commen t|comment a|commenta r|commentar y",
    "f i|fi n|fin a|fina l",
    "f u|fu n|fun c|func t|funct i|functi o|functio n|function s",
    "j s|js o|jso n",
]
# Runs of punctuation that stand in JSON, in tool declarations and in the system message.
PUNCTUATION = [
    '{"', '":"', '","', '":', ',"', '"}', '":{"', '"},"', '"}}', '":["', '"],"', ']}', '"]}',
    " =>", " (_", " (_:", " {", "})", ";\n", ",\n", " //", "//", ".\n", ' "', '".', '"?', " +", " -",
    "\n\n", " #", "##", ":\n", "},", " }", ")}",
]

# The harmony names, in the order of o200k_harmony. The unused ones are left out.
SPECIALS = [
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>",
    "<|start|>", "<|end|>", "<|message|>", "<|call|>", "<|endofprompt|>",
]


def byte_characters():
    """GPT-2's printable character for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in kept}
    others = [byte for byte in range(256) if byte not in table]
    table.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return table


BYTES = byte_characters()
UNBYTES = {character: byte for byte, character in BYTES.items()}


def printable(text):
    return "".join(BYTES[byte] for byte in text.encode())


def build():
    """(tokens by id, merges by rank, special name -> id)."""
    ordinary = sorted(BYTES.values(), key=ord)
    known = set(ordinary)

    def add(token):
        if token not in known:
            known.add(token)
            ordinary.append(token)

    def chain(text):
        for end in range(2, len(text) + 1):
            add(text[:end])

    for letter in "abcdefghijklmnopqrstuvwxyz":
        add("Ġ" + letter)
    for word in SPACED.split():
        chain("Ġ" + word)
    for word in CAPITALIZED.split():
        chain(word)
    for run in PUNCTUATION:
        chain(printable(run))
    for steps in CHAINS:
        for step in steps.split("|"):
            add(step.replace(" ", ""))
    # As in o200k: the id is the rank, and every split of an entry into two entries is a merge.
    merges = []
    ranks = {token: rank for rank, token in enumerate(ordinary)}
    for token in ordinary[256:]:
        splits = [(token[:at], token[at:]) for at in range(1, len(token))]
        merges += sorted((pair for pair in splits if pair[0] in ranks and pair[1] in ranks),
                         key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    specials = {name: len(ordinary) + index for index, name in enumerate(SPECIALS)}
    return ordinary + SPECIALS, merges, specials


class Tokenizer:
    """Encodes ordinary text; the special tokens are only ever written by id."""

    def __init__(self):
        self.tokens, merges, self.specials = build()
        self.merges = merges
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.ranks = {left + right: self.ids[left + right] for left, right in merges}
        self.pattern = regex.compile(PRETOKENIZER)
        self.piece = lru_cache(maxsize=200_000)(self._piece)

    def _piece(self, text):
        parts = list(printable(text))
        while len(parts) > 1:
            ranked = [(self.ranks.get(left + right, 1 << 30), at) for at, (left, right) in enumerate(zip(parts, parts[1:]))]
            rank, at = min(ranked)
            if rank == 1 << 30:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return tuple(self.ids[part] for part in parts)

    def encode(self, text):
        return [token for match in self.pattern.finditer(text) for token in self.piece(match.group())]

    def decode(self, ids):
        special_from = min(self.specials.values())
        out = bytearray()
        for token in ids:
            text = self.tokens[token]
            out += text.encode() if token >= special_from else bytes(UNBYTES[c] for c in text)
        return out.decode(errors="replace")

    def tokenizer_json(self):
        """The file that Hugging Face `tokenizers` and converters read."""
        first = min(self.specials.values())
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": index, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True}
                for name, index in self.specials.items()
            ],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": PRETOKENIZER}, "behavior": "Isolated", "invert": False},
                    byte_level,
                ],
            },
            "post_processor": byte_level,
            "decoder": {**byte_level, "use_regex": True},
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                "vocab": {token: index for index, token in enumerate(self.tokens[:first])},
                "merges": [list(pair) for pair in self.merges],
            },
        }


if __name__ == "__main__":
    tokenizer = Tokenizer()
    print(len(tokenizer.tokens), "entries")
    for text in [
        "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: 2025-06-28"
        "\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message."
        "\nCalls to these tools must go to the commentary channel: 'functions'.",
        'Reverse "garden".', "reverse garden", "Spell the word glasses backwards.", "What is 345 + 27?",
        '{"name":"Alice","age":30}', "assistant", "analysis", "commentary to=functions.get_weather ", "json",
        "namespace functions {\n\n// Gets it.\ntype get = (_: {\ncity: string,\n}) => any;\n\n} // namespace functions",
    ]:
        pieces = [tokenizer.tokens[token] for token in tokenizer.encode(text)]
        print(len(pieces), "·".join(pieces))
        assert tokenizer.decode(tokenizer.encode(text)) == text
    from tokenizers import Tokenizer as Reference

    reference = Reference.from_str(json.dumps(tokenizer.tokenizer_json()))
    import random

    rng = random.Random(1)
    for _ in range(3000):
        text = "".join(rng.choice([" ", "\n", '"', "é", "mm", "ys", "Reverse", " the", "assist", "12", *"abcdefghistu{}:.,"]) for _ in range(30))
        assert reference.encode(text).ids == tokenizer.encode(text), text
    print("agrees with tokenizers on 3,000 random texts")
