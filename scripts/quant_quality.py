#!/usr/bin/env python3
"""How far quantised weights move a model: two dumps of the same cases and tokens, compared.

    paligrid dump --model DIR --cases CASES.json --images IMAGES --out full.h5
    paligrid dump --model DIR --cases CASES.json --images IMAGES --out int4.h5 --weights int4 --force full.h5
    scripts/quant_quality.py full.h5 int4.h5

Both must have seen the same tokens (--force), so that every step has the same context. Prints one line
a case and one for all:
    KL      mean and largest Kullback-Leibler divergence of the next-token distributions, in nats
    top-1   share of steps whose likeliest token is the same
    rel     |logits - logits'| / |logits| over all steps, Euclidean, each row without its mean
With --max-kl, --max-rel or --min-top1 the exit status is 1 when the line for all misses a limit.
"""
import argparse

import h5py
import numpy as np


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def compare(a, b):
    """(KL of each step, whether the likeliest token agrees, squared distance, squared size)."""
    p, q = log_softmax(a), log_softmax(b)
    used = np.exp(p) > 0  # tokens that are never generated have minus infinity in both
    kl = np.where(used, np.exp(p) * (np.where(used, p, 0) - np.where(used, q, 0)), 0).sum(axis=-1)
    finite = np.isfinite(a).all(axis=0)
    x, y = a[:, finite].astype(np.float64), b[:, finite].astype(np.float64)
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    return kl, a.argmax(axis=-1) == b.argmax(axis=-1), ((x - y) ** 2).sum(), (x ** 2).sum()


def line(name, kl, same, off, size):
    return (f"{name:24} {len(kl):5} steps  KL {kl.mean():.6f} (largest {kl.max():.6f})  top-1 {same.mean():.4f}"
            f"  rel {np.sqrt(off / size):.6f}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("full", help="dump with the weights as they are")
    p.add_argument("quantised", help="dump of the same model, cases and tokens with --weights int8 or int4")
    p.add_argument("--max-kl", type=float, help="limit of the mean KL")
    p.add_argument("--max-rel", type=float, help="limit of rel")
    p.add_argument("--min-top1", type=float, help="limit of top-1")
    o = p.parse_args()
    kls, sames, off, size = [], [], 0.0, 0.0
    with h5py.File(o.full) as x, h5py.File(o.quantised) as y:
        if set(x) != set(y):
            raise SystemExit(f"the dumps hold different cases: {sorted(set(x) ^ set(y))}")
        for case in x:
            a, b = x[case]["logits_steps"][()], y[case]["logits_steps"][()]
            if a.shape != b.shape:
                raise SystemExit(f"{case}: logits {a.shape} and {b.shape}; were the same tokens forced?")
            n = a.shape[-1]
            kl, same, d, s = compare(a.reshape(-1, n), b.reshape(-1, n))
            print(line(case, kl, same, d, s))
            kls.append(kl)
            sames.append(same)
            off, size = off + d, size + s
    kl, same, rel = np.concatenate(kls), np.concatenate(sames), np.sqrt(off / size)
    print(line("all", kl, same, off, size))
    missed = [text for text, bad in (
        (f"mean KL {kl.mean():.6f} > {o.max_kl}", o.max_kl is not None and not kl.mean() <= o.max_kl),
        (f"rel {rel:.6f} > {o.max_rel}", o.max_rel is not None and not rel <= o.max_rel),
        (f"top-1 {same.mean():.4f} < {o.min_top1}", o.min_top1 is not None and not same.mean() >= o.min_top1)) if bad]
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
