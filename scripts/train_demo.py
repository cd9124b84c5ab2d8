"""Trains the demo model on conversations made up on the fly: `python scripts/train_demo.py --seconds 4500`.

Needs only torch, safetensors and regex. Runs on two CPU cores; interrupt and repeat the command to resume.
Every row of a batch holds one system message and as many conversations as fit (see demo_harmony.py).
The last part of the time trains through the rounding of MXFP4 and BF16, so the exported weights are those trained.
"""

import argparse
import ctypes
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

import demo_data
import demo_harmony
import demo_text
from demo_model import Config, Model
from demo_optimizer import Shard
from demo_tokenizer import Tokenizer
from demo_words import Source

ROOT = Path(__file__).resolve().parent.parent
EFFORTS = ["low", "low", "medium", "medium", "medium", "high"]


@dataclass
class Batch:
    ids: torch.Tensor  # the trunk, then the rows
    positions: torch.Tensor
    trunk: int  # tokens of the trunk
    visible: torch.Tensor
    keep: torch.Tensor  # tokens whose next one the model writes
    targets: torch.Tensor
    answers: list  # (row, conversation, leaf) of each target
    kinds: list  # by row: (conversation, leaf) -> kind

    def inputs(self):
        return self.ids, self.positions, self.trunk, self.visible


class Batches:
    """One beginning of a conversation and rows of conversations that share it, from a seed and a number alone."""

    def __init__(self, tokenizer, texts, seed, tokens, testing=False):
        self.writer, self.seed, self.tokens, self.testing = demo_harmony.Writer(tokenizer), seed, tokens, testing
        self.texts = [tokenizer.encode(text) for text in texts]

    def row(self, source, frame, kinds, length, trunk):
        rng = source.rng
        columns, owner, misses, answers = [[], [], [], [], [], []], 0, 0, {}
        ids, positions, owners, leaves, learned, sees = columns
        while misses < 5:
            if rng.random() < 0.03 and self.texts:
                text = rng.choice(self.texts)
                start = rng.randrange(max(1, len(text) - 40))
                piece = text[start : start + min(120, length - len(ids))]
                made = demo_harmony.Branch(piece, list(range(len(piece))), [0] * len(piece), [1] * len(piece))
                sighted = False
            else:
                frame.turns = demo_data.fill(source, rng.choice(kinds), frame)
                made = demo_harmony.branch(self.writer, frame, rng)
                # Sometimes the conversation is long past its system message.
                jump = rng.randrange(2000) if rng.random() < 0.12 else 0
                made.positions = [at + trunk + jump for at in made.positions]
                sighted = True
            if len(ids) + len(made.ids) > length:
                misses += 1
                continue
            owner += 1
            answers.update({(owner, leaf + 1): kind for leaf, kind in enumerate(made.kinds)})
            for column, values in zip(columns, (made.ids, made.positions, [owner] * len(made.ids), made.leaves, made.learned, [sighted] * len(made.ids))):
                column += values
        gap = length - len(ids)
        for column, filler in zip(columns, (0, 0, owner + 1, 0, 0, False)):
            column += [filler] * gap
        return columns, answers

    def __call__(self, number):
        source = Source(self.seed * 1_000_003 + number, self.testing)
        rng = source.rng
        frame_kind = rng.choices(["plain", "schema", "tools"], [62, 14, 24])[0]
        frame = demo_data.frame(source, frame_kind, rng.choice(EFFORTS))
        kinds, length = [frame_kind], 256
        if frame_kind == "plain":
            kinds, length = (["chain", "memory", "memory"], 448) if rng.random() < 0.3 else (["simple", "hard"], 224)
        prefix = self.writer.trunk(frame, demo_harmony.random_date(rng), heading=rng.random() < 0.5)
        trunk = len(prefix)
        made = [self.row(source, frame, kinds, length, trunk) for _ in range(max(1, round((self.tokens - trunk) / length)))]
        ids, positions, owners, leaves, learned, sees = (torch.tensor([columns[at] for columns, _ in made]) for at in range(6))
        small = owners.to(torch.int16), leaves.to(torch.int16)
        (owner_seen, leaf_seen), (owner, leaf) = (column[:, None, :] for column in small), (column[:, :, None] for column in small)
        own = (owner_seen == owner) & ((leaf_seen == 0) | (leaf_seen == leaf))
        own &= torch.ones(length, length, dtype=torch.bool).tril()
        visible = torch.cat([sees[:, :, None].bool().expand(-1, -1, trunk), own], 2)
        # A token is predicted from the one stored before it, which within a leaf is the token before it in the prompt.
        follows = (learned[:, 1:] == 1) & (owners[:, 1:] == owners[:, :-1])
        keep = F.pad(follows, (0, 1)).reshape(-1).nonzero()[:, 0]
        answers = list(zip((keep // length).tolist(), owners.reshape(-1)[keep + 1].tolist(), leaves.reshape(-1)[keep + 1].tolist()))
        targets = ids.reshape(-1)[keep + 1]
        return Batch(torch.cat([torch.tensor(prefix), ids.reshape(-1)]), torch.cat([torch.arange(trunk), positions.reshape(-1)]),
                     trunk, visible, keep + trunk, targets, answers, [kinds for _, kinds in made])


def keep_memory():
    """Tells glibc to reuse large buffers: returning them costs a page fault for every 4 KiB of every step."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


@torch.no_grad()
def exact(model, tokenizer, qat, steps=4, tokens=1200, seed=7):
    """Held-out answers that greedy decoding would give exactly, working included, by kind: (right, asked).

    If every token is the most likely one after the right beginning, greedy decoding writes the right text.
    """
    batches, score = Batches(tokenizer, [], seed, tokens, testing=True), {}
    for step in range(steps):
        batch = batches(step)
        right = model(*batch.inputs(), qat, batch.keep).argmax(-1) == batch.targets
        whole = {}
        for answer, fine in zip(batch.answers, right.tolist()):
            whole[answer] = whole.get(answer, True) and fine
        for (row, owner, leaf), fine in whole.items():
            kind = batch.kinds[row][owner, leaf]
            before = score.get(kind, (0, 0))
            score[kind] = (before[0] + fine, before[1] + 1)
    return dict(sorted(score.items()))


def load_or_none(file):
    return torch.load(file) if file.exists() else None


def save(value, file):
    torch.save(value, file.with_suffix(".new"))
    os.replace(file.with_suffix(".new"), file)


def train(rank, options, model, gradients, clock, barrier):
    """One of `workers` equal processes with one thread each: they meet twice a step, where threads would meet in every operation."""
    keep_memory()
    torch.set_num_threads(1)
    tokenizer = Tokenizer()
    shard = Shard(model, rank, options.workers)
    shard_file, log_file = options.out / f"shard-{rank}.pt", options.out / "log.jsonl"
    step, spent = 0, 0.0
    if (state := load_or_none(options.out / "state.pt")) is not None:
        step, spent = state["step"], state["spent"]
    if (state := load_or_none(shard_file)) is not None:
        shard.load(state)
    barrier.wait()
    parameters = list(model.parameters())
    starts = dict(zip(map(id, parameters), torch.tensor([0] + [p.numel() for p in parameters]).cumsum(0).tolist()))
    average = lambda p: gradients[:, starts[id(p)] : starts[id(p)] + p.numel()].mean(0).view_as(p)
    batches = Batches(tokenizer, demo_text.passages(ROOT), options.seed, options.tokens // options.workers)
    if rank == 0:
        print(f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters, {len(tokenizer.tokens)} entries, from step {step}", flush=True)

    mean, began = None, time.time()
    while spent < options.seconds:
        done = min(1, spent / options.seconds)
        qat = done > options.quantize_from
        rate = options.rate * min(1, (step + 1) / 60, (1.02 - done) / 0.15)
        batch = batches(step * options.workers + rank)
        loss = F.cross_entropy(model(*batch.inputs(), qat, batch.keep), batch.targets)
        balance = sum(layer.balance for layer in model.layers)
        model.zero_grad()
        (loss + 0.01 * balance).backward()
        torch.cat([p.grad.reshape(-1) for p in parameters], out=gradients[rank, :-1])
        gradients[rank, -1] = loss.item()
        if rank == 0:
            # A file `seconds` in the folder changes the length of the run while it runs. A pause of the machine is no training time.
            if step % 20 == 0 and (options.out / "seconds").exists():
                options.seconds = float((options.out / "seconds").read_text())
            now = time.time()
            clock[0], clock[1], began = spent + min(now - began, 5), options.seconds, now
        barrier.wait()
        shard.step(average, rate)
        spent, options.seconds, loss = clock[0].item(), clock[1].item(), gradients[:, -1].mean().item()
        step += 1
        barrier.wait()
        mean = loss if mean is None else 0.95 * mean + 0.05 * loss
        if rank == 0 and step % 20 == 0:
            entry = {"step": step, "seconds": round(spent, 1), "loss": round(mean, 5), "balance": round(balance.item() / len(model.layers), 3), "rate": round(rate, 6), "quantized": qat}
            if step % 200 == 0:
                entry["exact"] = exact(model, tokenizer, qat)
            with log_file.open("a") as log:
                log.write(json.dumps(entry) + "\n")
            print(entry, flush=True)
        if step % options.save_every == 0 or spent >= options.seconds:
            save(shard.state(), shard_file)
            if rank == 0:
                save({"model": model.state_dict(), "step": step, "spent": spent}, options.out / "state.pt")
            barrier.wait()
    if rank == 0:
        print("held out, exact:", exact(model, tokenizer, True, steps=40), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4500, help="training time, the schedule's length")
    parser.add_argument("--tokens", type=int, default=3600, help="tokens in a step, over all workers")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--quantize-from", type=float, default=0.85, help="part of the time after which weights are rounded")
    parser.add_argument("--save-every", type=int, default=50, help="steps between saved states")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "demo-training", help="folder of the state and the log")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    model = Model(Config(len(Tokenizer().tokens)))
    if (state := load_or_none(options.out / "state.pt")) is not None:
        model.load_state_dict(state["model"])
    model.share_memory()
    gradients = torch.zeros(options.workers, sum(p.numel() for p in model.parameters()) + 1).share_memory_()
    clock = torch.zeros(2, dtype=torch.float64).share_memory_()
    barrier = torch.multiprocessing.get_context("spawn").Barrier(options.workers)
    torch.multiprocessing.spawn(train, (options, model, gradients, clock, barrier), options.workers)


if __name__ == "__main__":
    main()
