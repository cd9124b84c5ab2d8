"""The miniature gpt-oss in plain torch, written for training on a CPU.

The same arithmetic as the real model: alternating window and full attention with sinks, YaRN,
grouped heads, four of eight experts per token, clamped SwiGLU with biases. `quantized()` rounds the
experts to MXFP4 and the rest to BF16 while gradients pass straight through.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    vocabulary: int
    hidden: int = 192
    ffn: int = 192
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    experts: int = 8
    active: int = 4
    window: int = 128
    limit: float = 7.0
    epsilon: float = 1e-5
    theta: float = 150000.0
    factor: float = 32.0
    original_context: int = 4096


def mxfp4_scaled(weight):
    """(exponents, blocks of 32 along the last axis divided by two to that power), by GGML's choice of the exponent."""
    blocks = weight.reshape(*weight.shape[:-1], -1, 32)
    largest = blocks.abs().amax(-1, keepdim=True)
    exponent = torch.where(largest > 0, torch.floor(torch.log2(largest)) - 2, torch.full_like(largest, -127)).clamp(min=-127)
    return exponent, blocks * torch.exp2(-exponent)


def mxfp4(weight):
    """The nearest MXFP4 values; a tie takes the smaller magnitude."""
    exponent, scaled = mxfp4_scaled(weight)
    size = scaled.abs()
    # E2M1 goes in halves up to 2, in ones up to 4, in twos up to 6.
    spacing = 0.5 + 0.5 * (size > 1.75) + (size > 3.5)
    nearest = torch.ceil(size / spacing - 0.5).mul_(spacing).clamp_(max=6)
    return (torch.copysign(nearest, scaled) * torch.exp2(exponent)).reshape(weight.shape)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context, weight, rounding):
        return rounding(weight)

    @staticmethod
    def backward(context, gradient):
        return gradient, None


class Dispatch(torch.autograd.Function):
    """Rows of `x` repeated for each of their experts and sorted by expert. Both directions only gather."""

    @staticmethod
    def forward(context, x, order, inverse, active):
        context.save_for_backward(inverse)
        context.active = active
        return x.index_select(0, order // active)

    @staticmethod
    def backward(context, gradient):
        (inverse,) = context.saved_tensors
        back = gradient.index_select(0, inverse)
        return back.view(-1, context.active, back.shape[-1]).sum(1), None, None, None


class Permute(torch.autograd.Function):
    @staticmethod
    def forward(context, x, forth, back):
        context.save_for_backward(back)
        return x.index_select(0, forth)

    @staticmethod
    def backward(context, gradient):
        return gradient.index_select(0, context.saved_tensors[0]), None, None


class ClampedSwiglu(torch.autograd.Function):
    """`gate * sigmoid(1.702 gate) * (up + 1)` of clamped halves, with few passes over memory."""

    @staticmethod
    def forward(context, gate_up, limit):
        gate, up = gate_up.chunk(2, -1)
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit).add_(1)
        sigmoid = (gate * 1.702).sigmoid_()
        context.save_for_backward(gate, up, sigmoid)
        context.limit = limit
        return (gate * sigmoid).mul_(up)

    @staticmethod
    def backward(context, gradient):
        gate, up, sigmoid = context.saved_tensors
        limit = context.limit
        swish = gate * sigmoid
        both = torch.empty(*gate.shape[:-1], 2 * gate.shape[-1])
        d_gate, d_up = both.chunk(2, -1)
        # The clamp passes a gradient only inside; `up` holds 1 more than its clamped value.
        torch.mul(gradient, swish, out=d_up).mul_((up - 1).abs_().lt_(limit))
        # d(g s)/dg = s + 1.702 g s (1 - s)
        slope = swish.mul_(1.702).addcmul_(swish, sigmoid, value=-1).add_(sigmoid)
        torch.mul(gradient, slope.mul_(up), out=d_gate).mul_(gate < limit)
        return both, None


def rounded(weight, rounding):
    return StraightThrough.apply(weight, rounding)


def bf16(weight):
    return weight.to(torch.bfloat16).to(weight.dtype)


def barred(allowed):
    """0 where attention is allowed, minus infinity elsewhere."""
    return torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.config, self.sliding = config, index % 2 == 0
        hidden, width, kv_width = config.hidden, config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.attention_norm = nn.Parameter(torch.ones(hidden))
        self.moe_norm = nn.Parameter(torch.ones(hidden))
        self.qkv = nn.Linear(hidden, width + 2 * kv_width)
        self.output = nn.Linear(width, hidden)
        self.sinks = nn.Parameter(torch.zeros(config.heads))
        self.router = nn.Linear(hidden, config.experts)
        # Rows: first all gates, then all ups. The exporter interleaves them.
        self.gate_up = nn.Parameter(torch.randn(config.experts, 2 * config.ffn, hidden) * hidden**-0.5)
        self.gate_up_bias = nn.Parameter(torch.zeros(config.experts, 2 * config.ffn))
        self.down = nn.Parameter(torch.randn(config.experts, hidden, config.ffn) * 0.5 * config.ffn**-0.5)
        self.down_bias = nn.Parameter(torch.zeros(config.experts, hidden))

    def attention(self, x, trunk, cosine, sine, masks, qat):
        """`x` (tokens, hidden): first the trunk, then the rows of the body, which see the trunk and themselves."""
        config = self.config
        dense = (lambda w: rounded(w, bf16)) if qat else (lambda w: w)
        normed = F.rms_norm(x, (config.hidden,), self.attention_norm, config.epsilon)
        mixed = F.linear(normed, dense(self.qkv.weight), self.qkv.bias).view(len(x), -1, config.head_dim)
        qk, v = mixed.split([config.heads + config.kv_heads, config.kv_heads], 1)
        first, second = qk.chunk(2, -1)
        qk = torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
        q, k = qk.split([config.heads, config.kv_heads], 1)
        parts = []
        if trunk:
            parts.append(self.attend(q[None, :trunk], k[None, :trunk], v[None, :trunk], masks[0]))
        if trunk < len(x):
            rows = len(masks[1])
            own = [t[trunk:].unflatten(0, (rows, -1)) for t in (q, k, v)]
            shared = [torch.cat([t[:trunk].expand(rows, -1, -1, -1), mine], 1) for t, mine in zip((k, v), own[1:])]
            parts.append(self.attend(own[0], *shared, masks[1]))
        return F.linear(torch.cat(parts), dense(self.output.weight), self.output.bias)

    def attend(self, q, k, v, mask):
        """Softmax attention of (rows, tokens, heads, head_dim), with the sink as one more column that has no value."""
        config, (rows, length), keys = self.config, q.shape[:2], k.shape[1]
        q = (q * config.head_dim**-0.5).transpose(1, 2).reshape(rows * config.kv_heads, -1, config.head_dim)
        k, v = (t.transpose(1, 2).reshape(rows * config.kv_heads, keys, config.head_dim) for t in (k, v))
        scores = torch.bmm(q, k.transpose(1, 2)).view(rows, config.heads, length, keys) + mask[:, None]
        sink = self.sinks.view(1, -1, 1, 1).expand(rows, -1, length, 1)
        weights = torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
        out = torch.bmm(weights.reshape(rows * config.kv_heads, -1, keys), v)
        return out.view(rows, config.heads, length, config.head_dim).transpose(1, 2).reshape(rows * length, -1)

    def moe(self, x, qat):
        config = self.config
        normed = F.rms_norm(x, (config.hidden,), self.moe_norm, config.epsilon)
        logits = self.router(normed)
        top, chosen = logits.topk(config.active, -1)
        gate_up, down = (rounded(self.gate_up, mxfp4), rounded(self.down, mxfp4)) if qat else (self.gate_up, self.down)
        flat = chosen.reshape(-1)
        order = flat.argsort(stable=True)
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        counts = torch.bincount(flat, minlength=config.experts)
        parts = []
        for expert, rows in enumerate(Dispatch.apply(normed, order, inverse, config.active).split(counts.tolist())):
            z = ClampedSwiglu.apply(F.linear(rows, gate_up[expert], self.gate_up_bias[expert]), config.limit)
            parts.append(F.linear(z, down[expert], self.down_bias[expert]))
        answers = Permute.apply(torch.cat(parts), inverse, order).view(-1, config.active, config.hidden)
        out = torch.bmm(top.softmax(-1)[:, None], answers)
        # Pulls the experts toward equal use (Switch Transformer's loss).
        self.balance = (logits.softmax(-1).mean(0) * counts / len(normed)).sum() * config.experts / config.active
        return out[:, 0]

    def forward(self, x, trunk, cosine, sine, masks, qat):
        x = x + self.attention(x, trunk, cosine, sine, [pair[0 if self.sliding else 1] for pair in masks], qat)
        return x + self.moe(x, qat)


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.randn(config.vocabulary, config.hidden) * 0.5)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.norm = nn.Parameter(torch.ones(config.hidden))
        self.head = nn.Parameter(torch.randn(config.vocabulary, config.hidden) * config.hidden**-0.5 * 0.5)
        half = torch.arange(0, config.head_dim, 2).float() / config.head_dim
        base = config.theta**-half
        low, high = (config.head_dim * math.log(config.original_context / (2 * math.pi * turns)) / (2 * math.log(config.theta)) for turns in (32, 1))
        ramp = ((torch.arange(config.head_dim // 2) - low) / (high - low)).clamp(0, 1)
        self.register_buffer("frequencies", base / config.factor * ramp + base * (1 - ramp), persistent=False)
        self.concentration = 0.1 * math.log(config.factor) + 1

    def forward(self, ids, positions, trunk, visible, qat=False, keep=None):
        """Logits of the tokens `keep`. `ids` and `positions` hold `trunk` tokens and then rows; `visible` (rows, length, trunk + length) says what a row's token sees."""
        angles = positions[:, None, None].float() * self.frequencies
        cosine, sine = angles.cos() * self.concentration, angles.sin() * self.concentration
        rows, length = visible.shape[:2]
        at = positions[trunk:].view(rows, length)
        seen = torch.cat([positions[:trunk].expand(rows, -1), at], 1)
        causal = torch.ones(1, trunk, trunk, dtype=torch.bool).tril()
        near = positions[None, :trunk, None] - positions[None, None, :trunk] < self.config.window
        masks = [[barred(causal & near), barred(causal)],
                 [barred(visible & (at[:, :, None] - seen[:, None, :] < self.config.window)), barred(visible)]]
        dense = (lambda w: rounded(w, bf16)) if qat else (lambda w: w)
        x = dense(self.embedding)[ids]
        for layer in self.layers:
            x = layer(x, trunk, cosine, sine, masks, qat)
        x = x if keep is None else x.index_select(0, keep)
        return F.linear(F.rms_norm(x, (self.config.hidden,), self.norm, self.config.epsilon), dense(self.head))

    def plain(self, ids, qat=False, keep=None):
        """Logits of one text, without any tree."""
        return self(torch.tensor(ids), torch.arange(len(ids)), len(ids), torch.zeros(0, 1, len(ids) + 1, dtype=torch.bool), qat, keep)

    @torch.no_grad()
    def generate(self, ids, limit, stops, qat=False):
        """Greedy continuation, the whole text again for every token: short texts only."""
        made = []
        while len(made) < limit and (not made or made[-1] not in stops):
            length = len(ids) + len(made)
            made.append(int(self.plain(ids + made, qat, torch.tensor([length - 1]))[0].argmax()))
        return made
