"""Greedy answers of an exported folder on held-out scenes, scored by kind.

Everything runs through transformers (float32, eager attention: sdpa has no soft cap) on the bf16
weights of the folder, so what is measured is what is shipped. Held-out scenes come from a seed of
their own, and the words on their signs are either random letters or never seen in training.
"""

import json
import random
import re
from collections import Counter, defaultdict

import numpy as np
import torch

from . import language, scenes
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


def names_in(lang, text):
    """The multiset of (shape, colour, number) in a caption; 0 for a plural without a number."""
    found = Counter()
    for s in language.SHAPES:
        for c in language.COLOURS:
            single, several = (language.name(lang, s, c, plural) for plural in (False, True))
            found[s, c, 1] += len(re.findall(rf"\b{single}\b", text))
            for word in re.findall(rf"(\w+) {several}\b", text):
                words = language.NUMBER[lang]
                found[s, c, words.index(word) if word in words else 0] += 1
    return +found


def boxes(text):
    """[((x0, y0, x1, y1) in 0..1 or None, name)]"""
    out = []
    for part in text.split(" ; "):
        hit = re.fullmatch(r"((?:<loc\d{4}>){4}) ?(.*)", part.strip())
        if hit:
            y0, x0, y1, x1 = (int(v) / 1024 for v in re.findall(r"\d{4}", hit[1]))
            out.append(((x0, y0, x1, y1), hit[2]))
        else:
            out.append((None, part))
    return out


def overlap(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / max(union, 1e-9)


def average_precision(found, n_true):
    """found: (score, right). Area under the precision envelope."""
    if not found:
        return 0.0
    hits = np.cumsum([right for _, right in sorted(found, key=lambda f: -f[0])])
    recall, precision = hits / n_true, hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(np.concatenate([[0], recall])) * precision))


def score_detection(asked, answers):
    """mAP at IoU 0.5 over names (a name's boxes on all pictures are ranked by the mean
    log-probability of their tokens), and the mean IoU of the true boxes (0 where missed)."""
    found, n_true, overlaps = defaultdict(list), Counter(), []
    for (_, _, truth), (text, ids, log_p) in zip(asked, answers):
        truth, guesses = boxes(truth), boxes(text)
        n_true.update(name for _, name in truth)
        scores = [p for i, p in zip(ids, log_p) if LOC0 <= i < LOC0 + 1024]
        taken = {}
        for j, (box, name) in enumerate(guesses):
            if box is None:
                continue
            best = max(
                (
                    (overlap(box, t), k)
                    for k, (t, n) in enumerate(truth)
                    if n == name and k not in taken
                ),
                default=(0, None),
            )
            right = best[0] >= 0.5
            if right:
                taken[best[1]] = best[0]
            found[name].append((float(np.mean(scores[4 * j : 4 * j + 4])), right))
        overlaps += [taken.get(k, 0) for k in range(len(truth))]
    n_right = sum(r for f in found.values() for _, r in f)
    return {
        "mAP50": float(np.mean([average_precision(found[n], n_true[n]) for n in n_true])),
        "recall50": n_right / n_true.total(),
        "precision50": n_right / max(1, sum(map(len, found.values()))),
        "mean_iou": float(np.mean(overlaps)),
        "boxes": n_true.total(),
    }


def score(kind, asked, answers):
    exact = [a[0] == truth for (_, _, truth), a in zip(asked, answers)]
    result = {"n": len(asked), "exact": float(np.mean(exact))}
    languages = [p.split()[1] if kind != "ocr" and kind != "detect" else None for _, p, _ in asked]
    if kind == "caption":
        right = [
            names_in(lang, a[0]) == names_in(lang, truth)
            for lang, (_, _, truth), a in zip(languages, asked, answers)
        ]
        result["sets"] = float(np.mean(right))
    elif kind == "detect":
        result.update(score_detection(asked, answers))
    elif kind == "ocr":
        result["held_out_words"] = float(
            np.mean([e for e, (_, _, t) in zip(exact, asked) if t in language.WORDS_HELD])
        )
        for n in range(1, 7):
            result[f"letters_{n}"] = float(
                np.mean([e for e, (_, _, t) in zip(exact, asked) if len(t) == n])
            )
    for lang in language.LANGUAGES:
        if lang in languages:
            result[lang] = float(np.mean([e for e, at in zip(exact, languages) if at == lang]))
    return result


def evaluate(folder, cache, n=500, show=0):
    """{kind: scores}; captions are scored on scenes without a word, and apart on signs."""
    model, encoder = load(folder), Encoder(folder)
    pictures, held = scenes.read_part(cache, "held")
    results = {}
    for kind in (*language.KINDS, "caption_sign"):
        rng = random.Random(77)
        order = rng.sample(range(len(held)), len(held))
        asked, where = [], []
        for i in order:
            if kind.startswith("caption") and bool(held[i]["word"]) != (kind == "caption_sign"):
                continue
            one = language.ask(held[i], rng, kind.split("_")[0])
            if one and len(asked) < n:
                asked.append(one)
                where.append(i)
        answers = answer(model, encoder, [pictures[i] for i in where], [p for _, p, _ in asked])
        results[kind] = score(kind.split("_")[0], asked, answers)
        print(kind, json.dumps({k: round(v, 3) for k, v in results[kind].items()}), flush=True)
        for (_, prompt, truth), (text, _, _) in list(zip(asked, answers))[:show]:
            print(f"    {prompt} | {text}" + ("" if text == truth else f" | wanted {truth}"))
    return results
