#!/usr/bin/env python3
"""transformers on a GPU, in bfloat16, on the weights of `synthetic:MODEL`: one line of JSON a model.

    scripts/bench_gpu_peer.py [--new-tokens 32] [--text-tokens 16] [--rounds 2] [--compile] MODEL...

MODEL is a preset such as 3b-448. Nothing is read from disk: scripts/oracle/make_model.py has the formula, and weights are
made on the device. The prompt is `paligrid bench`'s: the picture's tokens and --text-tokens more. `first_s` is the time to the
first token, `whole_s` to the last, medians over --rounds; images_s is 1 / whole_s. --compile measures a second time with
the decoder compiled by torch, where that works. A model that does not fit is named and left out.
"""
import argparse
import gc
import json
import os
import re
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "oracle")]
V0, ROWS = 256000, 257216  # of the published tokenizer


def hub_name(name):
    """A parameter's name in the published files, whichever version of transformers names it."""
    name = name.removeprefix("model.")
    name = re.sub(r"^language_model\.(?!model\.|lm_head)", "language_model.model.", name)
    return re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name)


def shape_of(preset, layers):
    import make_model

    c = dict(make_model.PRESETS[preset])
    c["text"], c["vision"] = dict(c["text"]), dict(c["vision"])
    if layers:
        c["text"]["num_hidden_layers"] = c["vision"]["num_hidden_layers"] = layers
    return make_model, c


def fill(model, preset, layers):
    """Every parameter by the formula: a block of values, repeated from where the name says."""
    import torch

    mm, c = shape_of(preset, layers)
    shapes = dict(mm.tensors(c, ROWS))
    block = torch.from_numpy(mm.normals("block", 1, 0, mm.PRIME))
    for name, p in model.named_parameters():
        hub = hub_name(name)
        if hub == "lm_head.weight":
            continue  # tied
        if hub not in shapes or tuple(p.shape) != tuple(shapes[hub]):
            raise SystemExit(f"bench_gpu_peer: no formula for {name} {tuple(p.shape)}; another version of transformers is needed")
        mean, std = mm.scale(hub, shapes[hub], c)
        values = torch.roll((mean + std * block).float().to(torch.bfloat16), -(mm.fnv1a(hub) % mm.PRIME)).to(p.device)
        flat = p.data.view(-1)
        for i in range(0, flat.numel(), mm.PRIME):
            flat[i:i + mm.PRIME] = values[:flat.numel() - i]
        shapes.pop(hub)
    if shapes:
        raise SystemExit(f"bench_gpu_peer: transformers has no {next(iter(shapes))}")


class Peer:
    def __init__(self, preset, args):
        import torch
        import transformers

        mm, c = shape_of(preset, args.layers)
        config = transformers.PaliGemmaConfig(**mm.configs(c, V0, ROWS, "hub", True)["config.json"])
        torch.set_default_dtype(torch.bfloat16)
        # sdpa where it may be had: some versions refuse it for Gemma 2, whose scores have a cap
        for self.attention in ("sdpa", None):
            config._attn_implementation = self.attention
            try:
                with torch.device(args.device):
                    self.model = transformers.PaliGemmaForConditionalGeneration(config).eval()
                break
            except ValueError:
                if self.attention is None:
                    raise
        self.model.tie_weights()
        fill(self.model, preset, args.layers)
        px, patch = c["vision"]["image_size"], c["vision"]["patch_size"]
        ids = [V0 + 1152] * (px // patch) ** 2 + [2] + [1000 + i for i in range(args.text_tokens - 1)]
        self.ids = torch.tensor([ids], device=args.device)
        self.pixels = torch.rand(1, 3, px, px, device=args.device) * 2 - 1
        self.torch, self.args = torch, args

    def compile(self):
        decoder = self.model.get_decoder() if hasattr(self.model, "get_decoder") else self.model.model.language_model
        decoder.forward = self.torch.compile(decoder.forward, dynamic=True)

    def seconds(self, n):
        sync = self.torch.cuda.synchronize if self.args.device == "cuda" else lambda: None
        sync()
        start = time.perf_counter()
        with self.torch.inference_mode():
            self.model.generate(input_ids=self.ids, attention_mask=self.torch.ones_like(self.ids), pixel_values=self.pixels,
                                do_sample=False, max_new_tokens=n, min_new_tokens=n)
        sync()
        return time.perf_counter() - start

    def measure(self):
        n = self.args.new_tokens
        self.seconds(4)  # warm-up, and compilation of both phases
        first = statistics.median(self.seconds(1) for _ in range(self.args.rounds))
        whole = statistics.median(self.seconds(n) for _ in range(self.args.rounds))
        return {"first_s": round(first, 5), "whole_s": round(whole, 5), "images_s": round(1 / whole, 4),
                "decode_tokens_s": round((n - 1) / max(whole - first, 1e-9), 3)}


def tell(preset, kind, what):
    print(json.dumps({"model": preset, "kind": kind, **what}), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="+", metavar="MODEL")
    ap.add_argument("--new-tokens", type=int, default=32)
    ap.add_argument("--text-tokens", type=int, default=16)
    ap.add_argument("--rounds", type=int, default=2)
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--layers", type=int, help="of both towers, for a try on a small machine")
    ap.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    args = ap.parse_args()
    import torch
    import transformers

    print(f"# transformers {transformers.__version__}, torch {torch.__version__}", flush=True)
    for preset in args.models:
        try:
            peer = Peer(preset, args)
            tell(preset, peer.attention or "default attention", peer.measure())
            if args.compile:
                peer.compile()
                tell(preset, "compiled", peer.measure())
        except Exception as e:  # what does not run is told in the table's row, and the next one tried
            tell(preset, "failed", {"error": f"{type(e).__name__}: {str(e).splitlines()[0][:160] if str(e) else ''}"})
        peer = None
        gc.collect()
        if args.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
