#!/usr/bin/env python3
"""transformers as a peer: peer_transformers.py MODEL --threads N --text-tokens N --new-tokens N [--compiled vision,prefill | decode]

bfloat16. Without --compiled as a user calls it: get_image_features and generate, which chooses attention and cache. With it,
torch.compile with frozen weights (inductor packs them), static shapes and a static cache; the phases named are compiled and
measured, one list in a process, since every graph keeps packed weights of its own. Compiling takes minutes.
A line {"batch": B} is answered by {"vision": images/s, "prefill": tokens/s of vision and decoder, "decode": tokens/s}.
"""
import argparse
import json
import logging
import os
import sys
import time

IMAGE_TOKEN = 257152  # as in checkpoint.py


class Transformers:
    def __init__(self, torch, transformers, args):
        self.torch, self.args = torch, args
        torch.set_num_threads(args.threads)
        self.model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(args.model, dtype=torch.bfloat16).eval()
        vision = self.model.config.vision_config
        n_image = (vision.image_size // vision.patch_size) ** 2
        text = [2] + [1000 + i for i in range(args.text_tokens - 1)]
        self.ids = torch.tensor([[IMAGE_TOKEN] * n_image + text])
        self.pixels = torch.rand(1, 3, vision.image_size, vision.image_size, dtype=torch.bfloat16) * 2 - 1

    def inputs(self, batch):
        return self.ids.repeat(batch, 1), self.pixels.repeat(batch, 1, 1, 1)

    def generate(self, ids, pixels, n):
        self.model.generate(input_ids=ids, attention_mask=self.torch.ones_like(ids), pixel_values=pixels, do_sample=False,
                            max_new_tokens=n, min_new_tokens=n)

    def measure(self, batch):
        ids, pixels = self.inputs(batch)
        n = self.args.new_tokens
        with self.torch.inference_mode():
            vision = seconds(lambda: self.model.get_image_features(pixels))
            first = seconds(lambda: self.generate(ids, pixels, 1))
            whole = seconds(lambda: self.generate(ids, pixels, n))
        return {"vision": batch / vision, "prefill": ids.numel() / first, "decode": batch * (n - 1) / max(whole - first, 1e-9)}


class Compiled(Transformers):
    """Its own loop over a static cache: generate() would compile again for every length."""

    def __init__(self, torch, transformers, args):
        import torch._inductor.config as inductor

        super().__init__(torch, transformers, args)
        inductor.freezing = True
        torch._logging.set_logs(all=logging.ERROR)
        self.cache_class = transformers.StaticCache
        self.cache = {}
        self.phases = args.compiled.split(",")
        self.vision = torch.compile(self.model.get_image_features, dynamic=False) if "vision" in self.phases else None
        self.whole = torch.compile(self.model.forward, dynamic=False) if "prefill" in self.phases else self.model.forward
        self.step = torch.compile(self.next_token, dynamic=False) if "decode" in self.phases else None

    def cache_of(self, batch):
        if batch not in self.cache:
            room = self.ids.shape[1] + self.args.new_tokens
            self.cache[batch] = self.cache_class(config=self.model.config.text_config, max_cache_len=room)
        self.cache[batch].reset()
        return self.cache[batch]

    def prefill(self, batch):
        ids, pixels = self.inputs(batch)
        cache = self.cache_of(batch)
        out = self.whole(input_ids=ids, attention_mask=self.torch.ones_like(ids), pixel_values=pixels, token_type_ids=self.torch.zeros_like(ids),
                         past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache, out.logits[:, -1].argmax(-1, keepdim=True)

    def next_token(self, ids, cache, position):
        out = self.model.model.language_model(input_ids=ids, past_key_values=cache, use_cache=True, position_ids=position)
        return self.model.lm_head(out.last_hidden_state[:, -1]).argmax(-1, keepdim=True)  # the soft-cap keeps the order

    def decode(self, batch):
        cache, ids = self.prefill(batch)
        start = time.perf_counter()
        for i in range(1, self.args.new_tokens):
            ids = self.step(ids, cache, self.torch.tensor([[self.ids.shape[1] + i - 1]] * batch))
        return (time.perf_counter() - start) / (self.args.new_tokens - 1)

    def measure(self, batch):
        out = {}
        with self.torch.no_grad():  # freezing does not know inference_mode
            _, pixels = self.inputs(batch)
            if "vision" in self.phases:
                out["vision"] = batch / seconds(lambda: self.vision(pixels))
            if "prefill" in self.phases:
                out["prefill"] = batch * self.ids.shape[1] / seconds(lambda: self.prefill(batch))
            if "decode" in self.phases:
                out["decode"] = batch / self.decode(batch)
        return out


def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--threads", type=int, required=True)
    ap.add_argument("--text-tokens", type=int, default=16)
    ap.add_argument("--new-tokens", type=int, default=16)
    ap.add_argument("--compiled")
    args = ap.parse_args()
    answers = os.fdopen(os.dup(1), "w")  # libraries print what they like
    os.dup2(2, 1)

    def say(what):
        print(json.dumps(what), file=answers, flush=True)

    try:
        import torch
        import transformers
    except ImportError as e:
        say({"missing": f"{e} (pip install torch transformers)"})
        return
    peer = (Compiled if args.compiled else Transformers)(torch, transformers, args)
    say({"name": ("compiled " if args.compiled else "") + f"transformers {transformers.__version__}"})
    for line in sys.stdin:
        say(peer.measure(json.loads(line)["batch"]))


if __name__ == "__main__":
    main()
