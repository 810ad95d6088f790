#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 600
"""bf16 checkpoints as they are run by default: closer to the float32 truth than transformers' own bf16.

The bound of every dataset is transformers' own bf16 error on it (--noise, factor 1), under the
float32 run's tokens (teacher forcing), so every step has the golden's context.
"""
import os

import oracle

for config in oracle.BF16:
    out = os.path.join(oracle.WORK, f"{config}.bf16.h5")
    truth = oracle.golden(config)
    oracle.dump(oracle.checkpoint(config), truth, out, options=("--window", "hf"), force=truth)
    print(f"{config}: {oracle.compare(truth, out, '--noise', oracle.golden(config, 'bf16'), '--factor', '1')}")
