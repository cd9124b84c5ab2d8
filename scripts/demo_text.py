"""Plain text about the project, for the demo model to learn and for `fourfold perplexity` to measure."""

ABOUT = """
fourfold runs the open-weight gpt-oss models on the machine you have. It converts a checkpoint into one file, quantizes it, and reads that file from a memory map. The name says what it does: four bits for a weight, four experts for a token.

The demo model is a tiny model of the same kind. It has four layers, eight experts in each layer, and four of them work on every token. The first and the third layer see only the last 128 tokens, the second and the fourth see everything. Its experts are stored in MXFP4, a block of 32 weights in 17 bytes.

The model was trained on conversations that a script made up. It can add and subtract by columns, reverse and spell words, count letters, sort, write JSON, call functions, and remember what you said. It knows nothing about the world. What it cannot do, it says.

A quantized weight is a small number times a scale. A block of Q8_0 holds 32 numbers of eight bits and one scale. A block of MXFP4 holds 32 numbers of four bits and one power of two. The smaller the block, the better the fit, and the larger the file.

Reading the weights takes most of the time when one token is made. So the fewer bytes a weight has, the faster the model runs. When a long prompt is read, the weights are read once for many tokens, and the time goes into the multiplications.

A router chooses the experts. It looks at the token and gives each expert a mark. The four best marks become weights that sum to one, and the answers of these four experts are added by these weights.

The harmony format has three channels. The model thinks in the analysis channel, calls functions in the commentary channel, and answers in the final channel. The thinking of earlier turns is dropped from the prompt. The reasoning level says how much the model should think: low, medium or high.
"""


def passages(root):
    """The paragraphs to learn: this text and the project's own README and docs, where they exist."""
    texts = [ABOUT]
    for file in sorted([root / "README.md", *(root / "docs").glob("*.md")]):
        if file.exists():
            texts.append(file.read_text(encoding="utf-8"))
    return [" ".join(part.split()) for text in texts for part in text.split("\n\n") if len(part.split()) > 12]
