"""How right answers about scenes are, by kind of question.

asked: [(kind, prompt, right answer)]; answers: [(text, scores)], where scores ranks the parts of a
detection (any number that grows with confidence, one for each box); elsewhere it is not looked at.
"""

import random
import re
from collections import Counter, defaultdict

import numpy as np

from . import language


def choose(held, kind, n):
    """The first n scenes of a fixed order that can be asked this: [(number of the scene, (kind, prompt,
    right answer))]. "caption_sign" asks for captions of scenes with a word, "caption" of those without."""
    rng = random.Random(77)
    order = rng.sample(range(len(held)), len(held))
    out = []
    for i in order:
        if kind.startswith("caption") and bool(held[i]["word"]) != (kind == "caption_sign"):
            continue
        one = language.ask(held[i], rng, kind.split("_")[0])
        if one and len(out) < n:
            out.append((i, one))
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
    """mAP at IoU 0.5 over names (a name's boxes on all pictures are ranked by their scores), and the
    mean IoU of the true boxes (0 where missed)."""
    found, n_true, overlaps = defaultdict(list), Counter(), []
    for (_, _, truth), (text, scores) in zip(asked, answers):
        truth, guesses = boxes(truth), boxes(text)
        n_true.update(name for _, name in truth)
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
            found[name].append((scores[j], right))
        overlaps += [taken.get(k, 0) for k in range(len(truth))]
    n_right = sum(r for f in found.values() for _, r in f)
    return {
        "mAP50": float(np.mean([average_precision(found[n], n_true[n]) for n in n_true])),
        "recall50": n_right / n_true.total(),
        "precision50": n_right / max(1, sum(map(len, found.values()))),
        "mean_iou": float(np.mean(overlaps)),
        "boxes": n_true.total(),
    }


def share(right):
    """None where nothing was asked."""
    right = list(right)
    return float(np.mean(right)) if right else None


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
        of_word = [(e, t) for e, (_, _, t) in zip(exact, asked)]
        result["held_out_words"] = share(e for e, t in of_word if t in language.WORDS_HELD)
        for n in range(1, 7):
            result[f"letters_{n}"] = share(e for e, t in of_word if len(t) == n)
    for lang in language.LANGUAGES:
        if lang in languages:
            result[lang] = float(np.mean([e for e, at in zip(exact, languages) if at == lang]))
    return result
