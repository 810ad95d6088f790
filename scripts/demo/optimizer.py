"""The optimizer: Muon for the layers' matrices, AdamW for everything else.

Muon moves a matrix by the orthogonal factor of its momentum, found by Newton-Schulz iterations.
Gradients are averaged over the worker processes first, so that all of them make the same step.
"""

import torch
from torch import distributed, nn

MUON_RATE, ADAM_RATE = 0.015, 2e-3


class Optimizer:
    def __init__(self, model, helper):
        self.matrices = [p for n, p in model.named_parameters() if ".layers." in n and p.dim() == 2]
        ids = {id(p) for p in self.matrices}
        self.rest = [p for m in (model, helper) for p in m.parameters() if id(p) not in ids]
        self.adam = torch.optim.AdamW(
            [
                {"params": [p for p in self.rest if p.dim() > 1], "weight_decay": 0.02},
                {"params": [p for p in self.rest if p.dim() == 1], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
            eps=1e-9,
            fused=True,
        )
        self.momentum = [torch.zeros_like(p) for p in self.matrices]

    @torch.no_grad()
    def step(self, factor):
        average_gradients([p for p in self.rest + self.matrices if p.grad is not None])
        used = [p for p in self.rest if p.grad is not None]
        nn.utils.clip_grad_norm_(used, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * factor
        self.adam.step()
        by_shape = {}
        for p, m in zip(self.matrices, self.momentum):
            if p.grad is not None:
                m.mul_(0.95).add_(p.grad)
                by_shape.setdefault(p.shape, []).append((p, p.grad + 0.95 * m))
        rate = MUON_RATE * factor
        for (rows, columns), group in by_shape.items():
            updates = orthogonal(torch.stack([g for _, g in group]))
            scale = max(1, rows / columns) ** 0.5
            for (p, _), u in zip(group, updates):
                p.mul_(1 - 0.02 * rate).add_(u, alpha=-rate * scale)
        for p in self.rest + self.matrices:
            p.grad = None

    def state(self):
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def load(self, state):
        self.adam.load_state_dict(state["adam"])
        self.momentum = state["momentum"]


def average_gradients(parameters):
    """Over the workers, in one message; all of them hold gradients for the same parameters."""
    flat = torch.cat([p.grad.flatten() for p in parameters])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for p, g in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad.copy_(g.view_as(p))


def orthogonal(g):
    """The orthogonal factor of each matrix of a stack, roughly (Jordan's quintic iteration)."""
    tall = g.shape[1] > g.shape[2]
    x = (g.transpose(1, 2) if tall else g).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.transpose(1, 2) if tall else x).float()
