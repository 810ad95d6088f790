#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 1200
# SLOW
"""The fast CPU table, every instruction set this machine has: near the truth, and the same bits on any split.

bf16 checkpoints: this table rounds activations to bf16, as transformers does in bf16, so it may be as
far from the float32 truth as that is, times 2 for the other places of rounding (--noise, factor 2).
Beams are left out: under rounding others win, and then scores belong to other sequences. F32
checkpoints keep f32 arithmetic, so compare.py's plain bounds hold. Ranks and threads change no bit.
"""
import os
import subprocess

import oracle

ISAS = ("amx", "avx512_bf16", "avx512", "avx2")
SPLITS = {"gqa4": ((2, 1), (3, 2), (5, 1)), "tp": ((2, 2), (3, 1), (8, 1)), "gqa2": ((2, 1), (3, 2), (4, 1))}


def has(isa):
    """Whether --device cpu can use the instruction set here."""
    r = subprocess.run([os.path.join(oracle.BUILD, "paligrid"), "run", "--model", oracle.checkpoint("micro"), "--prompt", "x",
                        "--max-new-tokens", "1", "--device", "cpu", "--isa", isa, os.path.join(oracle.DATA, "images", "rgb.png")],
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120)
    if r.returncode not in (0, 78):
        raise SystemExit(f"--isa {isa}: exit status {r.returncode}: {r.stderr}")
    return r.returncode == 0


here = [isa for isa in ISAS if has(isa)]
print(f"instruction sets here: {here}")
if not here:
    print("no instruction set of the fast table on this machine")
    raise SystemExit(77)
failed = 0
for isa in here:
    for config, splits in SPLITS.items():
        truth, model = oracle.golden(config), oracle.checkpoint(config)
        fast = ("--window", "hf", "--device", "cpu", "--isa", isa)
        out = oracle.dump(model, truth, os.path.join(oracle.WORK, f"cpu.{isa}.{config}.h5"), options=(*fast, "--threads", "1"), force=truth, beams=config not in oracle.BF16)
        bound = ("--noise", oracle.golden(config, "bf16"), "--factor", "2") if config in oracle.BF16 else ()
        print(f"{isa} {config}: {oracle.compare(truth, out, *bound)}")
        for ranks, threads in splits if isa == here[0] else splits[:1] if config == "tp" else ():
            many = oracle.dump(model, truth, out.replace(".h5", f".np{ranks}.h5"), ranks, options=(*fast, "--threads", str(threads)), force=truth, beams=config not in oracle.BF16)
            bad, seen = oracle.bits_differ(out, many)
            failed += bool(bad) or seen == 0
            print(f"{isa} {config} on {ranks} ranks of {threads} thread(s): {seen} datasets, {len(bad)} differ {bad[:3]}")
raise SystemExit(1 if failed else 0)
