#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 1800
# SLOW
"""The same bits on 1, 2, 3, 4 and 5 ranks (as many as there are query heads): every dataset of a dump.

f32 weights (gqa2, caps with one KV head, mha with six) and bf16 weights (gqa4 and tp with eight
query heads and four SigLIP heads, so some of eight ranks hold no SigLIP head).
"""
import os

import oracle

MORE = {"tp": (8,), "mha": (6,)}
failed = 0
for config, heads in oracle.HEADS.items():
    model, truth = oracle.checkpoint(config), oracle.golden(config)
    one = oracle.dump(model, truth, os.path.join(oracle.WORK, f"{config}.np1.h5"))
    for ranks in [n for n in (2, 3, 4, 5) if n <= heads] + list(MORE.get(config, ())):
        many = oracle.dump(model, truth, os.path.join(oracle.WORK, f"{config}.np{ranks}.h5"), ranks)
        bad, seen = oracle.bits_differ(one, many)
        failed += bool(bad) or seen == 0
        print(f"{config} on {ranks} ranks: {seen} datasets, {len(bad)} differ {bad[:3]}")
raise SystemExit(1 if failed else 0)
