"""How far the eight-bit path's predictions are from --exact ones where the demo model talks: `python scripts/exactness.py [CONVERSATIONS]`.

Held-out conversations, fed to `fourfold logits` token by token as they should go, first with --exact and then without.
Prints the mean KL divergence over what the model writes (thoughts, calls and answers) and over all tokens, the system
message and the user's words included, which nobody asks it to predict. Needs numpy and a release build.
"""

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

import demo_data
import demo_harmony
from demo_tokenizer import Tokenizer
from demo_words import Source

ROOT = Path(__file__).resolve().parent.parent


def conversation(writer, source, rng):
    """(token ids, whether the model writes each)."""
    kind = rng.choices(["chain", "memory", "schema", "tools"], [40, 20, 14, 26])[0]
    made = demo_data.conversation(source, kind, rng.choice(["low", "medium", "high"]))
    ids = writer.trunk(made, demo_harmony.random_date(rng))
    written = [False] * len(ids)

    def add(message, own):
        ids.extend(message)
        written.extend([False, False] + [own] * (len(message) - 2))  # the prompt supplies `<|start|>assistant`

    for turn in made.turns:
        last = turn is made.turns[-1]
        add(writer.message("user", turn.user), False)
        thoughts = turn.thoughts.get(made.effort)
        if thoughts and (last or turn.call):
            add(writer.message("assistant", thoughts, "analysis"), True)
        if turn.call:
            add(writer.sampled_call(turn), True)
            add(writer.result(turn), False)
        add(writer.message("assistant", turn.final, "final", "return" if last else "end"), True)
    return ids, written


def predictions(folder, ids, *options):
    """Logarithms of the probabilities after each token."""
    out, tokens = folder / "logits.npy", ",".join(map(str, ids))
    command = [ROOT / "target" / "release" / "fourfold", "logits", "--tokens", tokens, "--all", "--output", out, "--force", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    logits = numpy.load(out).astype(numpy.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - numpy.log(numpy.exp(logits).sum(-1, keepdims=True))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    writer, source, rng = demo_harmony.Writer(Tokenizer()), Source(31337, testing=True), random.Random(1)
    divergences, agree, own = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            ids, written = conversation(writer, source, rng)
            exact = predictions(Path(folder), ids, "--exact")
            fast = predictions(Path(folder), ids)
            divergences += (numpy.exp(exact) * (exact - fast)).sum(-1)[:-1].tolist()
            agree += (exact.argmax(-1) == fast.argmax(-1))[:-1].tolist()
            own += written[1:]  # a position predicts the next token
    divergences, agree, own = map(numpy.array, (divergences, agree, own))
    for what, chosen in (("what the model writes", own), ("all tokens", own | True)):
        kl = divergences[chosen]
        print(f"{what}: {len(kl)} tokens, mean KL {kl.mean():.2e}, 99.9 % below {numpy.quantile(kl, 0.999):.2e}, first choice agrees in {100 * agree[chosen].mean():.2f} %")


if __name__ == "__main__":
    main()
