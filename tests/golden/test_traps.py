#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 600
"""Traps of the format, each shown by its effect on a dump: scale of embeddings, unscaled image rows,
lm_head in its four states, the window's reach, soft-caps from the config and from the command line.
"""
import json
import os
import shutil

import h5py
import numpy as np

import oracle

failed = 0


def check(name, ok, detail=""):
    global failed
    failed += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {name} {detail if not ok else ''}")


def tensors(folder):
    """Header and data of a one-file checkpoint."""
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        return json.loads(f.read(n)), f.read()


def bf16_to_f32(raw):
    return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)


def round_bf16(x):
    u = np.array([x], np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) & 0xFFFF0000).view(np.float32)[0]


def dump(name, folder, *options):
    return oracle.dump(folder, oracle.golden("micro"), os.path.join(oracle.WORK, f"traps.{name}.h5"), options=options)


def micro(name, head_rows=None, scale=1.0, tied=True):
    """A copy of the shipped checkpoint, with an lm_head of so many rows that is `scale` times the table."""
    folder = os.path.join(oracle.WORK, "ckpt", f"traps-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(oracle.DATA, "ckpt_micro"), folder)
    head, data = tensors(folder)
    if head_rows is not None:
        table = head["language_model.model.embed_tokens.weight"]
        rows, d = table["shape"]
        raw = data[table["data_offsets"][0]:table["data_offsets"][1]]
        values = bf16_to_f32(raw).reshape(rows, d)[:head_rows] * np.float32(scale)
        blob = (values.reshape(-1).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        head["lm_head.weight"] = {"dtype": "BF16", "shape": [head_rows, d], "data_offsets": [len(data), len(data) + len(blob)]}
        text = json.dumps(head).encode()
        with open(os.path.join(folder, "model.safetensors"), "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text + data + blob)
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["tie_word_embeddings"] = tied
    with open(path, "w") as f:
        json.dump(config, f)
    return folder


def same(a, b, datasets):
    with h5py.File(a) as x, h5py.File(b) as y:
        return all(x[c][n][()].tobytes() == y[c][n][()].tobytes() for c in x for n in datasets)


# sqrt(hidden) is rounded to the checkpoint's type, the product is not; image rows are the projector's.
for config, hidden in (("gqa4", 104), ("tp", 136)):
    folder, truth = oracle.checkpoint(config), oracle.golden(config)
    for option, scale in (("auto", round_bf16(np.sqrt(hidden))), ("f32", np.float32(np.sqrt(np.float32(hidden))))):
        out = oracle.dump(folder, truth, os.path.join(oracle.WORK, f"traps.scale.{config}.{option}.h5"), options=("--embed-scale", option))
        with h5py.File(out) as h5:
            case = h5["cap_en"]
            ids, embeds = case["input_ids"][0], case["embeds"][0]
            image = ids == ids[0]
            name = [n for n in os.listdir(folder) if n.endswith(".safetensors")]
            rows = {}
            for n in name:
                with open(os.path.join(folder, n), "rb") as f:
                    size = int.from_bytes(f.read(8), "little")
                    head, data = json.loads(f.read(size)), f.read()
                for key, t in head.items():
                    if key.endswith("embed_tokens.weight"):
                        table = bf16_to_f32(data[t["data_offsets"][0]:t["data_offsets"][1]]).reshape(t["shape"])
                        rows = {int(i): table[i] for i in ids[~image]}
            want = np.stack([rows[int(i)] * scale for i in ids[~image]])
            check(f"{config}: text rows scaled by {scale} ({option})", np.array_equal(embeds[~image], want))
            check(f"{config}: image rows are not scaled", np.array_equal(embeds[image], case["image_features"][0]))

# lm_head: absent, redundant, contradicting the tie, untied, untied with rows missing.
LOGITS = ("logits_prefill", "logits_steps", "greedy_tokens")
plain = dump("plain", micro("plain"))
check("a redundant lm_head changes nothing", same(plain, dump("redundant", micro("redundant", 1728)), LOGITS))
check("a tied lm_head that differs is not used", same(plain, dump("differs", micro("differs", 1728, 2.0)), LOGITS))
check("an untied lm_head is used (equal to the table)", same(plain, dump("untied", micro("untied", 1728, tied=False)), LOGITS))
double = dump("double", micro("double", 1728, 2.0, tied=False), "--logit-softcap", "0")
single = dump("single", micro("single", 1728, 1.0, tied=False), "--logit-softcap", "0")
with h5py.File(double) as a, h5py.File(single) as b:
    check("an untied lm_head is used (twice the table)",
          np.array_equal(a["cap_en/logits_prefill"][()], 2 * b["cap_en/logits_prefill"][()]))
for ranks in (1, 3):
    short = oracle.dump(micro("short", 1700, tied=False), oracle.golden("micro"), os.path.join(oracle.WORK, f"traps.short{ranks}.h5"), ranks)
    with h5py.File(short) as a, h5py.File(plain) as b:
        x, y = a["cap_en/logits_prefill"][()], b["cap_en/logits_prefill"][()]
        check(f"lm_head with rows missing on {ranks} rank(s): rows there are equal, the others never chosen",
              np.array_equal(x[:, :1700], y[:, :1700]) and bool(np.isneginf(x[:, 1700:]).all()) and int(a["cap_en/greedy_tokens"][()].max()) < 1700)

# The window acts on sliding layers while decoding, never on the prefill.
folder, truth = oracle.checkpoint("gqa2"), oracle.golden("gqa2")
none = oracle.dump(folder, truth, os.path.join(oracle.WORK, "traps.none.h5"), options=("--window", "none"), force=truth)
hf = oracle.dump(folder, truth, os.path.join(oracle.WORK, "traps.hf.h5"), options=("--window", "hf"), force=truth)
with h5py.File(none) as a, h5py.File(hf) as b:
    check("window: the prefill is the same", np.array_equal(a["long/layer_hidden"][()], b["long/layer_hidden"][()]) and
          np.array_equal(a["long/logits_prefill"][()], b["long/logits_prefill"][()]))
    check("window: decoding is not", not np.array_equal(a["long/logits_steps"][1:], b["long/logits_steps"][1:]))
    check("window: the choice is written", a.attrs["window"] in ("none", b"none") and b.attrs["window"] in ("hf", b"hf"))

# Soft-caps: null in mha's config; given on the command line they act on the logits as 30 tanh(x / 30).
folder, truth = oracle.checkpoint("mha"), oracle.golden("mha")
free = oracle.dump(folder, truth, os.path.join(oracle.WORK, "traps.free.h5"), force=truth)
cap = oracle.dump(folder, truth, os.path.join(oracle.WORK, "traps.cap.h5"), options=("--logit-softcap", "3"), force=truth)
with h5py.File(free) as a, h5py.File(cap) as b:
    x, y = a["cap_en/logits_prefill"][()].astype(np.float64), b["cap_en/logits_prefill"][()]
    check("logit soft-cap from the command line", np.abs(3 * np.tanh(x / 3) - y).max() < 1e-5 and np.abs(x).max() > 3)
raise SystemExit(1 if failed else 0)
