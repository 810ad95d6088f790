#!/usr/bin/env python3
"""Golden data for machines without Python: golden_bounds.py OUT

For every tiny configuration OUT/CONFIG gets `model`, a checkpoint; `cases.json`, what `paligrid dump
--cases` reads; and `bounds.h5`, for its --force and for tests/golden/test_golden_bounds.c, which says
what the datasets mean. Bounds are those of scripts/oracle/compare.py: 2e-4 of the largest value, and for
bf16 checkpoints twice the distance between transformers in float32 and in bfloat16, where that is more. A token may be any where the two best logits are nearer than that.
"""
import os
import shutil
import sys

import h5py
import numpy as np
import oracle

# micro is so narrow that rounding its inputs to bf16 moves it further than transformers' own bf16
TOL, FACTOR = {"micro": 0.05}, 2.0
HIDDEN = ("embeds", "layer_hidden", "final_norm")  # padded positions are not compared
NUMBERS = HIDDEN + ("vision_last_hidden", "image_features", "logits_steps", "top_values")
WHOLE = ("input_ids", "position_ids")


def number(name, truth, noise, tol):
    """What is wanted, and how far off it may be."""
    g = truth[name][()].astype(np.float64)
    mask = truth["attention_mask"][()]
    if name in HIDDEN:
        chosen = mask[:, truth["positions"][()]] if "positions" in truth else mask
        g = np.where(chosen[..., None] != 0, g, np.nan)
    bound = tol * (np.nanmax(np.abs(g)) or 1.0)
    if noise is not None and name in noise and noise[name].shape == g.shape:
        own = np.nanmax(np.abs(g - noise[name][()]))
        bound = FACTOR * own if own > bound else bound
    return g.astype(np.float32), bound


def tokens(truth, slack):
    """The golden tokens, -1 where the best two are too close."""
    best = truth["top_values"][()]
    want = truth["greedy_tokens"][()].astype(np.int32)
    close = (best[..., 0] - best[..., 1]).T <= slack
    return np.where(close, -1, want)


def write(config, out):
    truth = h5py.File(oracle.golden(config))
    noise = h5py.File(oracle.golden(config, "bf16")) if config in oracle.BF16 else {}
    with h5py.File(out, "w") as h5:
        for case, g in truth.items():
            to, own = h5.create_group(case), noise[case] if case in noise else None
            bounds = {}
            for name in filter(g.__contains__, NUMBERS):
                want, bounds[name] = number(name, g, own, TOL.get(config, 2e-4))
                to[name] = want
                to[name].attrs["bound"] = f"{bounds[name]:.9g}"
            for name in filter(g.__contains__, WHOLE + ("positions", "forced_tokens")):
                to[name] = g[name][()]
            to["greedy_tokens"] = tokens(g, 2 * bounds["logits_steps"])
            if "eos" in g.attrs:
                to.attrs["eos"] = g.attrs["eos"]


if __name__ == "__main__":
    if len(sys.argv) != 2 or "--help" in sys.argv:
        raise SystemExit(__doc__)
    for config in oracle.HEADS:
        folder = os.path.join(sys.argv[1], config)
        os.makedirs(folder, exist_ok=True)
        shutil.copytree(oracle.checkpoint(config), os.path.join(folder, "model"), dirs_exist_ok=True)
        oracle.cases_of(oracle.golden(config), os.path.join(folder, "cases.json"), beams=False)
        write(config, os.path.join(folder, "bounds.h5"))
