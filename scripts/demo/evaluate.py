"""Greedy answers of an exported folder on held-out scenes, scored by kind.

Everything runs through transformers (float32, eager attention: sdpa has no soft cap) on the bf16
weights of the folder, so what is measured is what is shipped. Held-out scenes come from a seed of
their own, and the words on their signs are either random letters or never seen in training.
"""

import json
from collections import defaultdict

import numpy as np
import torch

from . import language, scenes
from .score import choose, score
from .tokenizer import EOS, IMAGE, LOC0, Encoder

BATCH = 100
MAX_NEW = 60
N_IMAGE = 64


def load(folder):
    from transformers import PaliGemmaForConditionalGeneration

    torch.set_num_threads(2)
    return PaliGemmaForConditionalGeneration.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()


@torch.no_grad()
def answer(model, encoder, pictures, prompts):
    """[(text, ids, log-probabilities)] of the greedy answers; prompts of one length share a batch,
    so nothing is padded."""
    tokens = [(IMAGE,) * N_IMAGE + encoder.prompt(p) for p in prompts]
    by_length = defaultdict(list)
    for i, t in enumerate(tokens):
        by_length[len(t)].append(i)
    out = [None] * len(prompts)
    for indices in by_length.values():
        for start in range(0, len(indices), BATCH):
            some = indices[start : start + BATCH]
            ids = torch.tensor([tokens[i] for i in some])
            pixels = (
                torch.from_numpy(np.stack([pictures[i] for i in some])).permute(0, 3, 1, 2) / 127.5
                - 1
            )
            g = model.generate(
                input_ids=ids,
                pixel_values=pixels,
                attention_mask=torch.ones_like(ids),
                token_type_ids=torch.zeros_like(ids),
                max_new_tokens=MAX_NEW,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
            log_p = torch.stack([torch.log_softmax(x, -1).amax(-1) for x in g.logits], 1)
            for row, i in enumerate(some):
                new = g.sequences[row, ids.shape[1] :].tolist()
                new = new[: new.index(EOS)] if EOS in new else new
                out[i] = (encoder.pieces.decode(new), new, log_p[row, : len(new)].tolist())
    return out


def box_scores(ids, log_p):
    """The mean log-probability of each box's four tokens."""
    p = [p for i, p in zip(ids, log_p) if LOC0 <= i < LOC0 + 1024]
    return [float(np.mean(p[i : i + 4])) for i in range(0, len(p), 4)]


def evaluate(folder, cache, n=500, show=0):
    """{kind: scores}; captions are scored on scenes without a word, and apart on signs."""
    model, encoder = load(folder), Encoder(folder)
    pictures, held = scenes.read_part(cache, "held")
    results = {}
    for kind in (*language.KINDS, "caption_sign"):
        where, asked = zip(*choose(held, kind, n))
        answers = answer(model, encoder, [pictures[i] for i in where], [p for _, p, _ in asked])
        scored = [(text, box_scores(ids, log_p)) for text, ids, log_p in answers]
        results[kind] = score(kind.split("_")[0], asked, scored)
        print(kind, json.dumps({k: v and round(v, 3) for k, v in results[kind].items()}), flush=True)
        for (_, prompt, truth), (text, _, _) in list(zip(asked, answers))[:show]:
            print(f"    {prompt} | {text}" + ("" if text == truth else f" | wanted {truth}"))
    return results
