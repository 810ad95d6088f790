#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 600
"""The five naming variants, one file and shards, F32, BF16 and F16 tensors: the same numbers come out.

A checkpoint of the same weights under every published naming must give dumps that are the same to
the last bit; an F16 copy is made from the F32 one and must be within F16's rounding of it.
"""
import json
import os
import shutil

import numpy as np

import oracle

PREFIXES = {  # variant: (text, vision, projector, lm_head)
    "a": ("language_model.model.", "vision_tower.vision_model.", "multi_modal_projector."),
    "a2": ("language_model.model.", "vision_tower.", "multi_modal_projector."),
    "b": ("model.language_model.", "model.vision_tower.vision_model.", "model.multi_modal_projector."),
    "b2": ("model.language_model.", "model.vision_tower.", "model.multi_modal_projector."),
    "c": ("model.language_model.model.", "model.vision_tower.vision_model.", "model.multi_modal_projector."),
}


def rewrite(src, dst, rename, to_f16=False):
    """Copy a one-file checkpoint under other tensor names (and, if asked, in F16)."""
    shutil.copytree(src, dst, dirs_exist_ok=True)
    with open(os.path.join(src, "model.safetensors"), "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        head, data = json.loads(f.read(n)), f.read()
    out, blobs, pos = {"__metadata__": {"format": "pt"}}, [], 0
    for name, t in head.items():
        if name == "__metadata__":
            continue
        blob, dtype = data[t["data_offsets"][0]:t["data_offsets"][1]], t["dtype"]
        if to_f16:
            blob, dtype = np.frombuffer(blob, np.float32).astype(np.float16).tobytes(), "F16"
        out[rename(name)] = {"dtype": dtype, "shape": t["shape"], "data_offsets": [pos, pos + len(blob)]}
        blobs.append(blob)
        pos += len(blob)
    text = json.dumps(out).encode()
    with open(os.path.join(dst, "model.safetensors"), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def renamer(variant):
    text, vision, projector = PREFIXES[variant]

    def rename(name):
        for old, new in zip(PREFIXES["a"], (text, vision, projector)):
            if name.startswith(old):
                return new + name[len(old):]
        raise SystemExit(f"unexpected tensor {name}")
    return rename


failed = 0
base = oracle.checkpoint("gqa2")
truth = oracle.golden("gqa2")
options = ("--window", "hf", "--embed-scale", "f32")
first = oracle.dump(base, truth, os.path.join(oracle.WORK, "naming.a.h5"), options=options)
for variant in ("a2", "b", "b2", "c"):
    folder = os.path.join(oracle.WORK, "ckpt", f"naming-{variant}")
    rewrite(base, folder, renamer(variant))
    other = oracle.dump(folder, truth, os.path.join(oracle.WORK, f"naming.{variant}.h5"), options=options)
    bad, seen = oracle.bits_differ(first, other)
    failed += bool(bad) or seen == 0
    print(f"naming {variant}: {seen} datasets, {len(bad)} differ {bad[:3]}")
shards = oracle.dump(oracle.checkpoint("gqa2", "--shard-mb", "0.2"), truth, os.path.join(oracle.WORK, "naming.shards.h5"), options=options)
bad, seen = oracle.bits_differ(first, shards)
failed += bool(bad) or seen == 0
print(f"shards: {seen} datasets, {len(bad)} differ {bad[:3]}")

# F16 rounds every weight by at most 2^-11 of itself: 8000 times the 6e-8 that moves activations by
# at most 6e-6 of their range, so 0.05 is a bound with nothing to spare for a wrong conversion.
half = os.path.join(oracle.WORK, "ckpt", "naming-f16")
rewrite(base, half, renamer("a"), to_f16=True)
out = oracle.dump(half, truth, os.path.join(oracle.WORK, "naming.f16.h5"), options=options, force=truth)
print("f16:", oracle.compare(truth, out, "--tol", "0.05", "--cos", "0.998"))
raise SystemExit(1 if failed else 0)
