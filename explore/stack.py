# ruff: noqa
"""Many Llamas of one shape as one: every parameter has a leading axis V (variants), so a kernel serves them all.

Axes: V models, B rows, T tokens, D width, N vocabulary.
"""
from __future__ import annotations

import math
import torch
import torch.nn.functional as F

LAYERS, HEADS, EPS, THETA = 4, 5, 1e-5, 10000.0


def stack(states):
    """State dicts of HF models -> {name: (V, ...)} float32."""
    return {k: torch.stack([s[k].float() for s in states]) for k in states[0] if k != "lm_head.weight"}


def unstack(params, v):
    one = {k: p[v].detach().clone() for k, p in params.items()}
    one["lm_head.weight"] = one["model.embed_tokens.weight"]
    return one


def clone(params, index):
    """Rows `index` (list of ints, may repeat) as fresh leaf parameters."""
    at = torch.tensor(index, device=next(iter(params.values())).device)
    return {k: p.detach()[at].clone().requires_grad_(True) for k, p in params.items()}


def _rms(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w[:, None]


def _linear(x, w):  # x (V, M, in), w (V, out, in)
    return torch.bmm(x, w.transpose(1, 2))


def _rope(x, cos, sin):  # x (VB, H, T, d)
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def _angles(positions, d):
    freq = 1.0 / THETA ** (torch.arange(0, d, 2, device=positions.device).float() / d)
    angle = positions[..., None].float() * freq
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def hidden(P, ids, attend):
    """Final states (V, B*T, D). `attend(layer, q, k, v)` gets and gives (V*B, H, T, d); q and k without positions."""
    V, B, T = ids.shape
    E = P["model.embed_tokens.weight"]
    at = ids + (torch.arange(V, device=ids.device) * E.shape[1])[:, None, None]
    x = F.embedding(at, E.flatten(0, 1)).view(V, B * T, -1)
    for n in range(LAYERS):
        def w(name, n=n):
            return P[f"model.layers.{n}.{name}.weight"]
        h = _rms(x, w("input_layernorm"))
        q, k, v = (_linear(h, w(f"self_attn.{c}_proj")).view(V * B, T, HEADS, -1).transpose(1, 2) for c in "qkv")
        o = attend(n, q, k, v).transpose(1, 2).reshape(V, B * T, -1)
        x = x + _linear(o, w("self_attn.o_proj"))
        h = _rms(x, w("post_attention_layernorm"))
        x = x + _linear(F.silu(_linear(h, w("mlp.gate_proj"))) * _linear(h, w("mlp.up_proj")), w("mlp.down_proj"))
    return _rms(x, P["model.norm.weight"])


def logits(P, ids):
    """(V, B*T, N) of right-padded ids (V, B, T): what is after a row's end is seen by nobody before it."""
    T = ids.shape[2]
    d = P["model.embed_tokens.weight"].shape[2] // HEADS
    cos, sin = _angles(torch.arange(T, device=ids.device), d)

    def attend(n, q, k, v):
        return F.scaled_dot_product_attention(_rope(q, cos, sin), _rope(k, cos, sin), v, is_causal=True)

    return _linear(hidden(P, ids, attend), P["model.embed_tokens.weight"])


def losses(P, ids, weights):
    """Mean loss (V,) over weighted tokens. ids (V, B, T) long, weights (V, B, T) float, weight of predicting that token."""
    out = logits(P, ids[:, :, :-1])
    V = out.shape[0]
    loss = F.cross_entropy(out.flatten(0, 1), ids[:, :, 1:].flatten(), reduction="none").view(V, -1)
    w = weights[:, :, 1:].reshape(V, -1)
    return (loss * w).sum(1) / w.sum(1)


@torch.no_grad()
def clip(params, most=1.0):
    norm = sum(p.grad.flatten(1).pow(2).sum(1) for p in params.values()).sqrt()
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for p in params.values():
        p.grad.mul_(scale.view(-1, *[1] * (p.ndim - 1)))
    return norm


class Muon:
    """torch.optim.Muon's arithmetic, all matrices of one shape at once. Parameters (V, A, B)."""

    def __init__(self, params, weight_decay=0.01, momentum=0.95):
        self.wd, self.momentum = weight_decay, momentum
        shapes = {}
        for p in params:
            shapes.setdefault(p.shape, []).append(p)
        self.groups = [(ps, torch.zeros(len(ps), *shape, device=ps[0].device)) for shape, ps in shapes.items()]

    @torch.no_grad()
    def step(self, lr):
        for ps, buf in self.groups:
            grad = torch.stack([p.grad for p in ps])  # (M, V, A, B)
            buf.lerp_(grad, 1 - self.momentum)
            g = grad.lerp_(buf, self.momentum).bfloat16()
            A, B = g.shape[-2:]
            g = (g.mT if A > B else g).flatten(0, 1)
            g = g / g.float().flatten(1).norm(dim=1).clamp(min=1e-7).to(g.dtype)[:, None, None]
            for _ in range(5):
                gram = torch.bmm(g, g.mT)
                gram = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
                g = torch.baddbmm(g, gram, g, beta=3.4445)
            g = (g.mT if A > B else g).reshape(buf.shape).float()
            torch._foreach_mul_(ps, 1 - lr * self.wd)
            torch._foreach_add_(ps, list(g.unbind(0)), alpha=-lr * math.sqrt(max(1, A / B)))


class Pretrainer:
    """Muon for hidden matrices, AdamW for the rest, as in tools/pocket/pretrain.py: fresh for each phase."""

    def __init__(self, params, adam_share):
        self.params, self.share = params, adam_share
        matrices = [p for k, p in params.items() if p.ndim == 3 and "embed" not in k]
        others = [p for k, p in params.items() if p.ndim != 3 or "embed" in k]
        self.muon, self.adam = Muon(matrices), torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self, lr):
        clip(self.params)
        self.muon.step(lr)
        self.adam.param_groups[0]["lr"] = self.share * lr
        self.adam.step()
        for p in self.params.values():
            p.grad = None


def installer(params, weight_decay=0.01):
    """AdamW as in holdfast.train.install."""
    matrices = [p for p in params.values() if p.ndim == 3]
    vectors = [p for p in params.values() if p.ndim < 3]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95))


@torch.inference_mode()
def sample(P, prompts, end, *, new, seed=0, rows_at_once=4096):
    """Replies of every model to every prompt: [v][r] lists of ids without the end token. Temperature 1."""
    V = len(P["model.norm.weight"])
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    out = [[None] * len(prompts) for _ in range(V)]
    size = max(1, rows_at_once // V)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        for v, replies in enumerate(_sample(P, [prompts[i] for i in part], end, new, seed + start)):
            for i, reply in zip(part, replies, strict=True):
                out[v][i] = reply
    return out


def _sample(P, prompts, end, new, seed):
    E = P["model.embed_tokens.weight"]
    V, dev, B = E.shape[0], E.device, len(prompts)
    d = E.shape[2] // HEADS
    lengths = torch.tensor([len(p) for p in prompts], device=dev)
    width = int(lengths.max())
    ids = torch.zeros(B, width, dtype=torch.long)
    for i, p in enumerate(prompts):
        ids[i, : len(p)] = torch.tensor(p)
    ids = ids.to(dev)[None].expand(V, -1, -1)
    cache = [torch.zeros(2, V * B, HEADS, width + new, d, device=dev) for _ in range(LAYERS)]
    cos, sin = _angles(torch.arange(width, device=dev), d)

    def prefill(n, q, k, v):
        k = _rope(k, cos, sin)
        cache[n][0, :, :, :width], cache[n][1, :, :, :width] = k, v
        return F.scaled_dot_product_attention(_rope(q, cos, sin), k, v, is_causal=True)

    x = hidden(P, ids, prefill).view(V, B, width, -1)
    x = x[:, torch.arange(B, device=dev), lengths - 1]  # (V, B, D)
    at = lengths.repeat(V)  # (VB) place of the next token
    rows = torch.arange(V * B, device=dev)
    places = torch.arange(width + new, device=dev)
    rng = torch.Generator(device="cpu").manual_seed(seed)
    draws = torch.rand(V, B, new, generator=rng).to(dev)
    tokens, done = [], torch.zeros(V, B, dtype=torch.bool, device=dev)
    for t in range(new):
        cumulative = _linear(x, E).double().softmax(-1).cumsum(-1)
        token = torch.searchsorted(cumulative, draws[:, :, t, None] * cumulative[..., -1:], right=True)[..., 0]
        token = token.clamp(max=E.shape[1] - 1)
        tokens.append(torch.where(done, end, token))
        done = done | (token == end)
        if t == new - 1 or (t % 8 == 7 and bool(done.all())):
            break
        c, s = (a[:, None, None] for a in _angles(at, d))
        mask = torch.zeros(V * B, 1, 1, width + new, device=dev).masked_fill((places > at[:, None])[:, None, None], -torch.inf)

        def step(n, q, k, v):
            cache[n][0][rows, :, at], cache[n][1][rows, :, at] = _rope(k, c, s)[:, :, 0], v[:, :, 0]
            return F.scaled_dot_product_attention(_rope(q, c, s), cache[n][0], cache[n][1], attn_mask=mask)

        x = hidden(P, token[..., None], step).view(V, B, -1)
        at = at + 1
    out = torch.stack(tokens, -1).tolist()
    return [[row[: row.index(end)] if end in row else row for row in rows_] for rows_ in out]
