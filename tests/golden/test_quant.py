#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 900
"""--weights int8 and int4: the values that quant.h gives, on any number of ranks, near the originals.

numpy quantises a checkpoint's decoder matrices by itself and writes their values as F32 tensors.
ops/ref widens quantised weights exactly, so a dump of that checkpoint has the same bits as one of
the original checkpoint with --weights; and so have dumps on several ranks.

The distances are those of weights drawn by chance, where every weight matters alike: int8 moves a
weight by 0.8 % of the standard deviation, int4 in groups of 32 by 8.5 %, which these models of
2 to 4 layers make 3 to 5 % and 40 to 50 % of the logits. Twice that would be something else than rounding.
"""
import json
import os
import shutil
import subprocess
import sys

import numpy as np

import oracle

QUALITY = os.path.join(oracle.ROOT, "scripts", "quant_quality.py")
LIMITS = {"int8": ("--max-rel", "0.1", "--max-kl", "0.04"), "int4": ("--max-rel", "0.8")}
RANKS = {"micro": (2, 3, 4), "gqa2": (3,)}
f32 = np.float32


def f16_towards(x, up):
    """x rounded to f16 towards plus or minus infinity, as f32."""
    h = x.astype(np.float16)
    off = h.astype(f32) < x if up else h.astype(f32) > x
    return np.where(off, np.nextafter(h, np.float16(np.inf if up else -np.inf)), h).astype(f32)


def int8_values(w):
    scale = np.abs(w).max(axis=1, keepdims=True) / f32(127)
    assert (scale >= np.finfo(f32).tiny).all()
    return scale * (np.rint(w * (f32(1) / scale)) + f32(0))  # no minus zeros among integers


def int4_values(w, group):
    out = np.empty_like(w)
    for k in range(0, w.shape[1], group):
        part = w[:, k:k + group]
        low = f16_towards(part.min(axis=1, keepdims=True), up=False)
        scale = f16_towards((part.max(axis=1, keepdims=True) - low) / f32(15), up=True)
        with np.errstate(divide="ignore"):
            factor = np.where(scale > 0, f32(1) / scale, f32(0))
        out[:, k:k + group] = scale * np.minimum(np.rint((part - low) * factor), f32(15)) + low
    return out


def chunk_of(name, text):
    """Elements of a row at whose multiples ranks may cut it; None for tensors that are not quantised."""
    if name.endswith("embed_tokens.weight"):
        return 32
    if not name.startswith("language_model.model.layers.") or "proj" not in name:
        return None
    grain = 256
    while grain > 1 and text["intermediate_size"] // grain < 4 * text["num_attention_heads"]:
        grain //= 2
    return {"o_proj": text["head_dim"], "down_proj": grain}.get(name.split(".")[-2], 32)


def values_of(blob, dtype):
    if dtype == "BF16":
        return (np.frombuffer(blob, np.uint16).astype(np.uint32) << 16).view(f32)
    return np.frombuffer(blob, f32)


def rewrite(src, dst, form):
    """A copy of a one-file checkpoint with every tensor in F32 and the decoder's matrices rounded."""
    shutil.copytree(src, dst, dirs_exist_ok=True)
    text = json.load(open(os.path.join(src, "config.json")))["text_config"]
    with open(os.path.join(src, "model.safetensors"), "rb") as f:
        head = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    out, blobs, at = {}, [], 0
    for name, t in head.items():
        if name == "__metadata__":
            continue
        w = values_of(data[t["data_offsets"][0]:t["data_offsets"][1]], t["dtype"]).reshape(t["shape"])
        chunk = chunk_of(name, text)
        if chunk:
            w = int8_values(w) if form == "int8" else int4_values(w, min(32, chunk & -chunk))
        blobs.append(np.ascontiguousarray(w, f32).tobytes())
        out[name] = {"dtype": "F32", "shape": t["shape"], "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
    header = json.dumps(out).encode()
    with open(os.path.join(dst, "model.safetensors"), "wb") as f:
        f.write(len(header).to_bytes(8, "little") + header + b"".join(blobs))
    return dst


def same(a, b, what):
    bad, seen = oracle.bits_differ(a, b)
    print(f"{what}: {seen} datasets, {len(bad)} differ {bad[:3]}")
    return not bad and seen > 0


def check(config, form):
    model, truth = oracle.checkpoint(config), oracle.golden(config)
    path = lambda name: os.path.join(oracle.WORK, f"quant.{config}.{form}.{name}.h5")
    scale = ("--embed-scale", "bf16")  # auto is the checkpoint's, and the rewritten one is in F32
    full = oracle.dump(model, truth, path("full"), options=scale)
    one = oracle.dump(model, truth, path("np1"), options=(*scale, "--weights", form), force=full)
    rounded = rewrite(model, os.path.join(oracle.WORK, "ckpt", f"quant-{config}-{form}"), form)
    plain = oracle.dump(rounded, truth, path("plain"), options=scale, force=full)
    good = same(one, plain, f"{config} {form}, numpy's values")
    for n in RANKS[config]:
        many = oracle.dump(model, truth, path(f"np{n}"), n, options=(*scale, "--weights", form), force=full)
        good &= same(one, many, f"{config} {form} on {n} ranks")
    r = subprocess.run([sys.executable, QUALITY, full, one, *LIMITS[form]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(r.stdout.strip().splitlines()[-1])
    return good and r.returncode == 0


results = [check(config, form) for config in RANKS for form in ("int8", "int4")]
raise SystemExit(0 if all(results) else 1)
