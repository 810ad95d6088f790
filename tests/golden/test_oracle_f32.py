#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 900
"""Every tiny configuration against transformers' float32 activations, logits, tokens and beams.

compare.py's default bounds: 2e-4 of a dataset's range and cosine 0.99999, tokens equal. The
golden files were computed in float32 whatever the checkpoint's type, so sqrt(hidden) is not
rounded here (--embed-scale f32); transformers masks sliding layers while decoding (--window hf).
"""
import os

import oracle

for config in oracle.HEADS:
    out = os.path.join(oracle.WORK, f"{config}.f32.h5")
    oracle.dump(oracle.checkpoint(config), oracle.golden(config), out, options=("--window", "hf", "--embed-scale", "f32"))
    need = ("--need", oracle.NEED + ",beam_tokens,beam_scores") if config != "hot" else ()
    print(f"{config}: {oracle.compare(oracle.golden(config), out, *need)}")
