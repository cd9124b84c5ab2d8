"""The optimizer of the demo model, shared by several single-threaded processes.

Parameters and one slot of gradients per worker lie in shared memory. After the backward pass every
worker averages and updates only its own part, so a step costs two barriers and no copies over
sockets. Matrices of the layers follow Muon (momentum, orthogonalized), everything else AdamW.
"""

import math

import torch


def orthogonalized(matrices, steps=4):
    """Nearest semi-orthogonal matrices of a batch, by a quintic Newton-Schulz iteration."""
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(-2, -1)
        x = 3.4445 * x + torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315) @ x
    return x


def squares(layer):
    """The layer's matrices as (parameter, shape of its batch of matrices), each wider than tall or square."""
    hidden, ffn, experts = layer.config.hidden, layer.config.ffn, layer.config.experts
    return [(layer.gate_up, (2 * experts, ffn, hidden)), (layer.down, (experts, hidden, ffn)),
            (layer.qkv.weight, (layer.qkv.weight.shape[0] // layer.config.head_dim, layer.config.head_dim, hidden)),
            (layer.output.weight, (1, hidden, layer.output.weight.shape[1]))]


class Shard:
    """What one worker updates: every `workers`-th matrix and every `workers`-th of the other parameters."""

    def __init__(self, model, rank, workers, decay=0.05, momentum=0.95):
        self.decay, self.momentum = decay, momentum
        matrices = sorted((pair for layer in model.layers for pair in squares(layer)), key=lambda pair: -pair[0].numel())
        known = {id(parameter) for parameter, _ in matrices}
        rest = sorted((p for p in model.parameters() if id(p) not in known), key=lambda p: p.numel())
        self.matrices, self.rest = matrices[rank::workers], rest[rank::workers]
        self.velocity = [torch.zeros_like(parameter) for parameter, _ in self.matrices]
        self.adam = torch.optim.AdamW(self.rest, lr=0, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def state(self):
        return {"velocity": self.velocity, "adam": self.adam.state_dict()}

    def load(self, state):
        self.velocity = state["velocity"]
        self.adam.load_state_dict(state["adam"])

    @torch.no_grad()
    def step(self, average, rate):
        """`average(parameter)`: its gradient over all workers."""
        for (parameter, shape), velocity in zip(self.matrices, self.velocity):
            gradient = average(parameter)
            velocity.lerp_(gradient, 1 - self.momentum)
            update = orthogonalized(gradient.lerp(velocity, self.momentum).view(shape))
            # With 0.2 the update would have the size that AdamW's has; so short a training wants larger ones.
            parameter.mul_(1 - rate * self.decay)
            parameter.add_(update.view_as(parameter), alpha=-rate * 0.4 * math.sqrt(max(shape[1:])))
        for parameter in self.rest:
            parameter.grad = average(parameter)
        torch.nn.utils.clip_grad_norm_(self.rest, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
