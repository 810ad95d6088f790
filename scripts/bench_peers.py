#!/usr/bin/env python3
"""paligrid against transformers on one machine, on the same weights, in turns.

    scripts/bench_peers.py [--preset 3b-224] [--layers 4 --vision-layers 4] [--rounds 5] [--threads 2]

Writes a checkpoint of deterministic weights (scripts/oracle/make_model.py; --layers for less disk and memory), loads it into
transformers in bfloat16 with its defaults, and then, round after round, times transformers and runs `paligrid bench` beside it.
What is told is the median of the rounds' own ratios: above 1, paligrid is faster. A round that paligrid's probes call unsteady
does not count. Both models are in memory at once. Needs torch and transformers (make oracle's environment has them).
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PHASES = ("vision", "prefill", "decode")
IMAGE_TOKEN = 257152  # of the published tokenizer: the whole vocabulary is computed


def make_checkpoint(out, args):
    """The weights and configuration; bench needs no tokenizer, so its files only have to be there."""
    tokenizer = os.path.join(out, "tokenizer")
    shutil.copytree(os.path.join(ROOT, "tests", "data", "oracle", "ckpt_micro"), tokenizer)
    with open(os.path.join(tokenizer, "added_tokens.json"), "w") as f:
        json.dump({"<image>": IMAGE_TOKEN}, f)
    model = os.path.join(out, "model")
    argv = [sys.executable, os.path.join(ROOT, "scripts", "oracle", "make_model.py"), "--preset", args.preset, "--tokenizer", tokenizer, "--out", model]
    for name in ("layers", "vision_layers"):
        if getattr(args, name):
            argv += ["--" + name.replace("_", "-"), str(getattr(args, name))]
    subprocess.run(argv, check=True, stdout=sys.stderr)
    return model


class Transformers:
    def __init__(self, model, args):
        import torch
        import transformers

        torch.set_num_threads(args.threads)
        self.torch, self.args = torch, args
        self.name = f"transformers {transformers.__version__}, torch {torch.__version__}, bfloat16"
        self.model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(model, dtype=torch.bfloat16).eval()
        px = self.model.config.vision_config.image_size
        self.n_image = (px // self.model.config.vision_config.patch_size) ** 2
        text = [2] + [1000 + i for i in range(args.text_tokens - 1)]
        self.ids = torch.tensor([[IMAGE_TOKEN] * self.n_image + text])
        self.pixels = torch.rand(1, 3, px, px, dtype=torch.bfloat16) * 2 - 1

    def seconds(self, f):
        start = time.perf_counter()
        with self.torch.inference_mode():
            f()
        return time.perf_counter() - start

    def generate(self, n):
        self.model.generate(input_ids=self.ids, attention_mask=self.torch.ones_like(self.ids), pixel_values=self.pixels, do_sample=False,
                            max_new_tokens=n, min_new_tokens=n)

    def measure(self):
        """Units of work a second: images, tokens of the prompt (vision included), new tokens."""
        n = self.args.new_tokens
        vision = self.seconds(lambda: self.model.get_image_features(self.pixels))
        first = self.seconds(lambda: self.generate(1))
        whole = self.seconds(lambda: self.generate(n))
        return {"vision": 1 / vision, "prefill": self.ids.shape[1] / first, "decode": (n - 1) / max(whole - first, 1e-9)}


def paligrid(model, args):
    """The same of paligrid: {phase: row}."""
    argv = [args.program, "bench", "--model", model, "--phases", ",".join(PHASES), "--threads", str(args.threads), "--text-tokens",
            str(args.text_tokens), "--max-new-tokens", str(args.new_tokens), "--weights", args.weights, "-r", "1", "-o", "json", "--log-level", "warn"]
    out = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {row["phase"]: row for row in map(json.loads, out.splitlines())}


def compare(peer, model, args):
    ratios, rates, unsteady = {p: [] for p in PHASES}, {p: [] for p in PHASES}, dict.fromkeys(PHASES, 0)
    peer.measure()  # warm-up
    for _ in range(args.rounds):
        theirs, ours = peer.measure(), paligrid(model, args)
        for p in PHASES:
            if not ours[p]["steady"]:
                unsteady[p] += 1
                continue
            ratios[p].append(ours[p]["median"] / theirs[p])
            rates[p].append((ours[p]["median"], theirs[p], ours[p]["unit"]))
    print(f"# {args.preset}, layers {args.layers or 'all'}, {args.threads} threads; paligrid {ours['vision']['build']} ({args.weights}) / {peer.name}")
    print(f"# {'phase':10} {'paligrid':>10} {'peer':>10} {'unit':10} {'ratio':>7} {'min':>7} {'max':>7} {'rounds':>6} {'unsteady':>8}")
    for p in PHASES:
        if not ratios[p]:
            print(f"{p:12} no steady round of {args.rounds}")
            continue
        mine, other = (statistics.median(r[i] for r in rates[p]) for i in (0, 1))
        print(f"{p:12} {mine:10.3f} {other:10.3f} {rates[p][0][2]:10} {statistics.median(ratios[p]):7.2f} {min(ratios[p]):7.2f} {max(ratios[p]):7.2f}"
              f" {len(ratios[p]):6} {unsteady[p]:8}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--preset", default="3b-224")
    ap.add_argument("--layers", type=int)
    ap.add_argument("--vision-layers", type=int)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("--text-tokens", type=int, default=16)
    ap.add_argument("--new-tokens", type=int, default=16)
    ap.add_argument("--weights", default="auto", help="paligrid's --weights; the peer always has bfloat16")
    ap.add_argument("--program", default=os.path.join(ROOT, "build", "release", "paligrid"))
    ap.add_argument("--tmp", help="where the checkpoint goes (default: the system's folder for such)")
    args = ap.parse_args()
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as e:
        sys.exit(f"bench_peers: {e}; it needs torch and transformers (pip install torch transformers)")
    if not os.access(args.program, os.X_OK):
        sys.exit(f"bench_peers: no program at {args.program}; run make")
    with tempfile.TemporaryDirectory(dir=args.tmp) as tmp:
        model = make_checkpoint(tmp, args)
        compare(Transformers(model, args), model, args)


if __name__ == "__main__":
    main()
