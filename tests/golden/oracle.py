"""Shared by the golden tests: checkpoints by formula, cases out of golden files, dumps, comparisons.

Nothing here knows the model: checkpoints come from scripts/oracle/make_model.py (numpy), the
truth from tests/data/oracle/golden (transformers), the verdict from scripts/oracle/compare.py.
"""
import json
import os
import subprocess
import sys

import h5py
import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, "tests", "data", "oracle")
BUILD = os.environ.get("PALIGRID_BUILD", os.path.join(ROOT, "build", "release"))
WORK = os.path.join(BUILD, "golden")
# Tests start more threads than there are cores; waiting ones must give way.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
HEADS = {"micro": 4, "gqa2": 4, "gqa4": 8, "caps": 4, "mha": 6, "tp": 8, "hot": 4}
BF16 = ("micro", "gqa4", "tp")


def run(argv, **kw):
    """Run a command; on failure show what it printed and stop the test."""
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, **kw)
    if r.returncode != 0:
        print(" ".join(argv))
        print(r.stdout[-6000:])
        raise SystemExit(f"exit status {r.returncode}: {' '.join(argv[:6])} ...")
    return r.stdout


def launch(ranks, argv):
    """The command line of argv on so many ranks of this machine."""
    return argv if ranks == 1 else [os.path.join(ROOT, "launch", "local.sh"), "-n", str(ranks), "--", *argv]


def checkpoint(config, *options):
    """A tiny checkpoint made by formula; made once per build folder."""
    out = os.path.join(WORK, "ckpt", "-".join([config, *(o.strip("-") for o in options)]))
    if not os.path.exists(os.path.join(out, "done")):
        run([sys.executable, os.path.join(ROOT, "scripts", "oracle", "make_model.py"), "--tiny", config,
             "--tokenizer", os.path.join(DATA, "ckpt_micro"), "--out", out, *options])
        open(os.path.join(out, "done"), "w").close()
    return out


def golden(config, compute="f32"):
    return os.path.join(DATA, "golden", f"{config}.{compute}.h5")


def cases_of(golden_file, out, beams=True):
    """The cases a golden file holds, in the form `paligrid dump --cases` reads."""
    cases = {}
    with h5py.File(golden_file) as h5:
        for name, g in h5.items():
            rows = [{"images": i, "prompt": p} for i, p in zip(json.loads(g.attrs["images"]), json.loads(g.attrs["prompts"]))]
            case = {"rows": rows, "steps": int(g["greedy_tokens"].shape[1])}
            if "eos" in g.attrs:
                case["eos"] = json.loads(g.attrs["eos"])
            if beams and "beam_tokens" in g:
                case["beam"] = int(g["beam_tokens"].shape[2])
            cases[name] = case
    with open(out, "w") as f:
        json.dump(cases, f)
    return out


def dump(model, golden_file, out, ranks=1, options=(), force=None, beams=True):
    """Run `paligrid dump` on the golden file's cases."""
    os.makedirs(os.path.dirname(out), exist_ok=True)
    cases = cases_of(golden_file, out + ".cases.json", beams)
    argv = [os.path.join(BUILD, "paligrid"), "dump", "--model", model, "--cases", cases, "--images",
            os.path.join(DATA, "images"), "--out", out, *options]
    if force:
        argv += ["--force", force]
    run(launch(ranks, argv))
    return out


NEED = "embeds,layer_hidden,final_norm,logits_steps,greedy_tokens,vision_last_hidden,image_features,input_ids,position_ids"


def compare(golden_file, dump_file, *options):
    """compare.py's verdict; returns its last line."""
    text = run([sys.executable, os.path.join(ROOT, "scripts", "oracle", "compare.py"), golden_file, dump_file, "--quiet",
                "--need", NEED, *options])
    return text.strip().splitlines()[-1]


def bits_differ(a, b):
    """Names of the datasets of two dumps that are not the same to the last bit."""
    bad, seen = [], 0
    with h5py.File(a) as x, h5py.File(b) as y:
        for case in x:
            if set(x[case]) != set(y[case]):
                bad.append(f"{case}: datasets {sorted(set(x[case]) ^ set(y[case]))}")
                continue
            for name in x[case]:
                p, q = x[case][name][()], y[case][name][()]
                seen += 1
                if p.shape != q.shape or p.dtype != q.dtype or p.tobytes() != q.tobytes():
                    n = int((p != q).sum()) if p.shape == q.shape else -1
                    bad.append(f"{case}/{name}: {n} of {p.size} values")
        if set(x) != set(y):
            bad.append(f"cases {sorted(set(x) ^ set(y))}")
    return bad, seen


def max_error(golden_file, dump_file):
    """Largest |error| / largest |golden| over the floating-point datasets (whole dumps only)."""
    worst = 0.0
    with h5py.File(golden_file) as g, h5py.File(dump_file) as d:
        for case in g:
            for name in ("vision_last_hidden", "image_features"):
                a, b = g[case][name][()].astype(np.float64), d[case][name][()].astype(np.float64)
                worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
    return worst
