"""PaliGemma 2 (SigLIP, a linear projector, Gemma 2) in plain torch, for training on a CPU.

The modules carry the names of the published checkpoints, so state_dict() is what export.py writes.
Two ways to run the decoder, same weights:
    packed   K prompts share one picture; each text sees the picture and itself, the picture sees
             only itself. Cheap (one pass over 64 image tokens for K prompts), not PaliGemma's mask.
    full     one prompt per sequence under PaliGemma's prefix mask: picture and prompt see each
             other, the answer is causal. The last part of the training, and what inference does.

Shapes: B pictures, N image tokens, K prompts of L tokens, H heads, D head size.
The attention cap (50) and the logit cap (30) are those of the real model and are trained with.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .tokenizer import LOC0, ROWS

IMAGE_PX, PATCH_PX = 112, 14
GRID = IMAGE_PX // PATCH_PX
VISION = {
    "hidden_size": 160,
    "intermediate_size": 448,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
}
TEXT = {
    "hidden_size": 160,
    "intermediate_size": 448,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
}
ATTENTION_CAP, LOGIT_CAP, ROPE_THETA, EPS = 50.0, 30.0, 10000.0, 1e-6
MASKED = -1e30


class Names(nn.Module):
    """A bare container: gives its children their place in the checkpoint's names."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class VisionLayer(nn.Module):
    def __init__(self):
        super().__init__()
        d, ff = VISION["hidden_size"], VISION["intermediate_size"]
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(d, eps=EPS), nn.LayerNorm(d, eps=EPS)
        self.self_attn = Names(**{f"{p}_proj": nn.Linear(d, d) for p in ("k", "v", "q", "out")})
        self.mlp = Names(fc1=nn.Linear(d, ff), fc2=nn.Linear(ff, d))

    def forward(self, x):
        b, n, d = x.shape
        a, y = self.self_attn, self.layer_norm1(x)
        q, k, v = (
            p(y).view(b, n, VISION["num_attention_heads"], -1).transpose(1, 2)
            for p in (a.q_proj, a.k_proj, a.v_proj)
        )
        weights = torch.softmax((q @ k.transpose(2, 3)).float() * q.shape[-1] ** -0.5, -1).to(
            v.dtype
        )
        x = x + a.out_proj((weights @ v).transpose(1, 2).reshape(b, n, d))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.layer_norm2(x)), approximate="tanh"))


class VisionModel(nn.Module):
    def __init__(self):
        super().__init__()
        d = VISION["hidden_size"]
        self.embeddings = Names(
            patch_embedding=nn.Conv2d(3, d, PATCH_PX, PATCH_PX),
            position_embedding=nn.Embedding(GRID * GRID, d),
        )
        self.encoder = Names(
            layers=nn.ModuleList(VisionLayer() for _ in range(VISION["num_hidden_layers"]))
        )
        self.post_layernorm = nn.LayerNorm(d, eps=EPS)

    def forward(self, pixels):  # [B, 3, 112, 112] in -1..1
        e = self.embeddings
        # The convolution over disjoint patches, as one matrix product.
        x = pixels.unfold(2, PATCH_PX, PATCH_PX).unfold(3, PATCH_PX, PATCH_PX)
        x = x.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        x = F.linear(x, e.patch_embedding.weight.flatten(1), e.patch_embedding.bias)
        x = x + e.position_embedding.weight
        for layer in self.encoder.layers:
            x = layer(x)
        return self.post_layernorm(x)


class RMSNorm(nn.Module):
    """Gemma's: multiplies by 1 + weight."""

    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d))

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + EPS)
        return (y * (1 + self.weight)).to(x.dtype)


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat((-second, first), -1) * sin).to(x.dtype)


def capped_scores(q, k):
    s = (q @ k.transpose(-1, -2)).float() * TEXT["query_pre_attn_scalar"] ** -0.5
    return torch.tanh(s / ATTENTION_CAP) * ATTENTION_CAP


def attend_full(q, k, v, bias):
    """q, k, v [B, H, N + L, D]; bias [B, 1, N + L, N + L]."""
    return torch.softmax(capped_scores(q, k) + bias, -1).to(v.dtype) @ v


def attend_packed(q, k, v, bias, n):
    """q, k, v [B, H, N + K * L, D]; bias [B, 1, K, L, L]."""
    b, h, _, d = q.shape
    _, _, prompts, length, _ = bias.shape
    split = (b, h, prompts, length, -1)
    qi, ki, vi = q[:, :, :n], k[:, :, :n], v[:, :, :n]
    image = torch.softmax(capped_scores(qi, ki), -1).to(v.dtype) @ vi
    qt, kt, vt = q[:, :, n:], k[:, :, n:].reshape(*split), v[:, :, n:].reshape(*split)
    scores = torch.cat(
        [capped_scores(qt, ki).view(split), capped_scores(qt.reshape(*split), kt) + bias], -1
    )
    w = torch.softmax(scores, -1).to(v.dtype)
    text = (w[..., :n].flatten(2, 3) @ vi).view(b, h, prompts, length, d) + w[..., n:] @ vt
    return torch.cat([image, text.flatten(2, 3)], 2)


class TextLayer(nn.Module):
    def __init__(self):
        super().__init__()
        d, ff, dh = TEXT["hidden_size"], TEXT["intermediate_size"], TEXT["head_dim"]
        heads, kv = TEXT["num_attention_heads"], TEXT["num_key_value_heads"]

        def linear(n_in, n_out):
            return nn.Linear(n_in, n_out, bias=False)

        self.self_attn = Names(
            q_proj=linear(d, heads * dh),
            k_proj=linear(d, kv * dh),
            v_proj=linear(d, kv * dh),
            o_proj=linear(heads * dh, d),
        )
        self.mlp = Names(gate_proj=linear(d, ff), up_proj=linear(d, ff), down_proj=linear(ff, d))
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(d), RMSNorm(d)
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm = RMSNorm(d), RMSNorm(d)

    def forward(self, x, cos, sin, bias, n):
        b, t, _ = x.shape
        a, y = self.self_attn, self.input_layernorm(x)
        group = TEXT["num_attention_heads"] // TEXT["num_key_value_heads"]
        q, k, v = (
            p(y).view(b, t, -1, TEXT["head_dim"]).transpose(1, 2)
            for p in (a.q_proj, a.k_proj, a.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        o = attend_full(q, k, v, bias) if bias.dim() == 4 else attend_packed(q, k, v, bias, n)
        x = x + self.post_attention_layernorm(a.o_proj(o.transpose(1, 2).reshape(b, t, -1)))
        y, m = self.pre_feedforward_layernorm(x), self.mlp
        y = m.down_proj(F.gelu(m.gate_proj(y), approximate="tanh") * m.up_proj(y))
        return x + self.post_feedforward_layernorm(y)


class Model(nn.Module):
    def __init__(self, seed):
        super().__init__()
        d = TEXT["hidden_size"]
        layers = nn.ModuleList(TextLayer() for _ in range(TEXT["num_hidden_layers"]))
        self.language_model = Names(
            model=Names(embed_tokens=nn.Embedding(ROWS, d), layers=layers, norm=RMSNorm(d))
        )
        self.multi_modal_projector = Names(linear=nn.Linear(VISION["hidden_size"], d))
        self.vision_tower = Names(vision_model=VisionModel())
        initialise(self, torch.Generator().manual_seed(seed))

    @property
    def embedding(self):
        return self.language_model.model.embed_tokens.weight

    def see(self, pixels):
        """uint8 [B, 112, 112, 3] -> [B, N, d_vision]."""
        return self.vision_tower.vision_model(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)

    def decode(self, features, ids, is_prompt):
        """features [B, N, d_vision]; ids, is_prompt [B, K, L] for packed, [B * reps, L] for full
        (each picture's reps prompts next to one another). Returns the text's states [.., L, d]."""
        g = self.language_model.model
        image = self.multi_modal_projector.linear(features).float()
        if ids.dim() == 2:
            image = image.repeat_interleave(ids.shape[0] // image.shape[0], 0)
        b, n, d = image.shape
        length = ids.shape[-1]
        x = torch.cat([image, (F.embedding(ids, self.embedding) * d**0.5).view(b, -1, d)], 1)
        at = torch.arange(n, n + length).repeat(ids.shape[1] if ids.dim() == 3 else 1)
        angles = 1.0 + torch.cat([torch.arange(n), at])
        dh = TEXT["head_dim"]
        angles = angles[:, None] * ROPE_THETA ** (-torch.arange(0, dh, 2) / dh)
        angles = torch.cat([angles, angles], -1)
        if ids.dim() == 2:
            is_prompt = F.pad(is_prompt, (n, 0), value=True)
        i = torch.arange(is_prompt.shape[-1])
        visible = is_prompt[..., None, :] | (i <= i[:, None])
        bias = torch.where(visible, 0.0, MASKED).unsqueeze(1)
        for layer in g.layers:
            x = layer(x, angles.cos(), angles.sin(), bias, n)
        return g.norm(x[:, n:])

    def logits(self, states):
        return torch.tanh(F.linear(states, self.embedding).float() / LOGIT_CAP) * LOGIT_CAP


def fourier(positions, frequencies, generator):
    """A smooth code of positions, turned by a random rotation so that no coordinate is special."""
    angles = positions[:, None] * frequencies
    code = torch.cat([angles.cos(), angles.sin()], 1)
    rotation, _ = torch.linalg.qr(torch.randn(code.shape[1], code.shape[1], generator=generator))
    return code @ rotation


@torch.no_grad()
def initialise(model, generator):
    """Fan-in scaled matrices; smooth codes for the patch positions and the <loc> tokens, so that
    neighbours start out alike."""
    for name, p in model.named_parameters():
        if p.dim() == 1:
            if "norm" not in name:
                p.zero_()
        elif "embed" not in name:
            p.normal_(0, p.shape[1] ** -0.5, generator=generator)
            if "out_proj" in name or "fc2" in name:
                p.mul_(0.5)
    e = model.vision_tower.vision_model.embeddings
    e.patch_embedding.weight.normal_(0, (3 * PATCH_PX**2) ** -0.5, generator=generator)
    d = VISION["hidden_size"]
    axis = fourier(
        (torch.arange(GRID) + 0.5) / GRID, math.pi * torch.linspace(0.25, 4, d // 4), generator
    )
    rows, columns = axis[:, None].expand(-1, GRID, -1), axis[None].expand(GRID, -1, -1)
    e.position_embedding.weight.copy_(0.5 * torch.cat([rows, columns], 2).flatten(0, 1))
    table = model.embedding
    d = table.shape[1]
    table.normal_(0, d**-0.5, generator=generator)
    loc = fourier(
        torch.arange(1024) / 1024, 2 * math.pi * torch.logspace(-0.4, 1.6, d // 2), generator
    )
    table[LOC0 : LOC0 + 1024] = 1.2 * F.normalize(loc, dim=1)
