"""Training batches: cached scenes, prompts drawn afresh each time, and labels for every patch.

A batch is a dictionary of numpy arrays:
    pictures  [B, 112, 112, 3] uint8
    patches   dense labels, see patch_labels; only the vision tower's helper loss uses them
    ids, is_prompt  [B, K, L] for packed, [B * K, L] for full; absent in the vision phase
    at, label, weight, kind  [T] one entry per answer token: where its logits are (an index into
              the flattened ids), the token, its weight in the loss, its kind in language.KINDS
    prompt    [T] which prompt the token belongs to

The batches of a phase are a function of its seed alone; a process of its own makes them ahead.
"""

import multiprocessing
import os
import random
import string

import numpy as np

from . import language
from .model import GRID, PATCH_PX
from .scenes import SIZE_PX, read_part
from .tokenizer import LOC0, Encoder

# Length L of a text: prompts K packed behind one picture. Most prompts fit the short one.
PACKED = {17: 6, 44: 2}
# The same under the full mask, where each prompt is a sequence of its own: K, and pictures per
# batch as a share of --batch.
FULL = {17: 3, 44: 2}
FULL_SHARE = 2 / 3
# Yes/no and letters carry more per token than the many tokens of boxes.
KIND_LOSS_WEIGHT = {"exists": 2.0, "relation": 2.5, "ocr": 2.5}
BOX_UNIT_PX = 32.0
N_SHAPES, N_COLOURS, N_LETTERS, N_PLACES = (
    len(language.SHAPES) + 2,
    len(language.COLOURS) + 1,
    27,
    7,
)
WORD_SHAPE = len(language.SHAPES) + 1
CENTRES_PX = np.arange(GRID) * PATCH_PX + PATCH_PX / 2
CX, CY = np.tile(CENTRES_PX, GRID), np.repeat(CENTRES_PX, GRID)


def patch_labels(scene):
    """Per patch [64]: shape (0 nothing, then language.SHAPES, then a word) and colour of what is at
    its centre, the box of that as distances to the four sides, the box's <loc> numbers, and for
    words the letters 3.5 pixels left and right of the centre with their places in the word."""
    n = GRID * GRID
    shape, colour = np.zeros(n, np.int64), np.zeros(n, np.int64)
    box = np.zeros((n, 4), np.float32)
    letter, place = np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64)
    for o in scene["objects"]:
        x0, y0, x1, y1 = o["box"]
        inside = (CX > x0 - 1) & (CX < x1 + 1) & (CY > y0 - 1) & (CY < y1 + 1)
        shape[inside] = language.SHAPES.index(o["shape"]) + 1
        colour[inside] = language.COLOURS.index(o["colour"]) + 1
        box[inside] = o["box"]
    if scene["word"]:
        x0, y0, x1, y1 = scene["word_box"]
        inside = (CX > x0 - 3) & (CX < x1 + 3) & (CY > y0 - 4) & (CY < y1 + 4)
        shape[inside], box[inside] = WORD_SHAPE, scene["word_box"]
        for slot, dx in enumerate((-3.5, 3.5)):
            k = np.searchsorted(scene["word_edges"], CX + dx) - 1
            hit = inside & (k >= 0) & (k < len(scene["word"]))
            letter[hit, slot] = [string.ascii_uppercase.index(scene["word"][j]) + 1 for j in k[hit]]
            place[hit, slot] = k[hit] + 1
    loc = np.clip(box[:, [1, 0, 3, 2]] / SIZE_PX * 1024, 0, 1023).astype(np.int64)
    sides = np.stack([CX - box[:, 0], CY - box[:, 1], box[:, 2] - CX, box[:, 3] - CY], 1)
    return {
        "shape": shape,
        "colour": colour,
        "sides": sides.astype(np.float32) / BOX_UNIT_PX,
        "loc": loc,
        "letter": letter,
        "place": place,
    }


def brighten(picture, rng):
    if rng.random() < 0.5:
        return picture
    x = picture.astype(np.float32) * rng.uniform(0.9, 1.1) + rng.uniform(-10, 10)
    return np.clip(x, 0, 255).astype(np.uint8)


def draw_prompts(scene, encoder, rng, tries):
    """Different questions about one scene, as (kind, prompt ids, answer ids)."""
    seen = {}
    for _ in range(tries):
        asked = language.ask(scene, rng)
        if asked:
            seen[asked[1:]] = (asked[0], encoder.prompt(asked[1]), encoder.answer(asked[2]))
    return list(seen.values())


def text_arrays(prompts, length):
    """The arrays of a batch for a flat list of (kind, prompt ids, answer ids)."""
    ids = np.zeros((len(prompts), length), np.int64)
    is_prompt = np.zeros((len(prompts), length), bool)
    rows = []
    for i, (kind, p, a) in enumerate(prompts):
        line = (p + a)[:-1]
        ids[i, : len(line)] = line
        is_prompt[i, : len(p)] = True
        weight = KIND_LOSS_WEIGHT.get(kind, 1.0) / len(a) ** 0.5
        k = language.KINDS.index(kind)
        rows += [(i * length + len(p) - 1 + j, token, weight, k, i) for j, token in enumerate(a)]
    at, label, weight, kind, prompt = zip(*rows)
    return {
        "ids": ids,
        "is_prompt": is_prompt,
        "at": np.array(at),
        "label": np.array(label),
        "weight": np.array(weight, np.float32),
        "kind": np.array(kind),
        "prompt": np.array(prompt),
    }


class Pool:
    """All training scenes in a shuffled order that starts over when it is used up."""

    def __init__(self, cache, rng):
        self.parts = [read_part(cache, f"train{i}") for i in range(8)]
        self.order = [
            (p, i) for p, (_, scenes) in enumerate(self.parts) for i in range(len(scenes))
        ]
        self.rng, self.next = rng, len(self.order)

    def draw(self):
        if self.next == len(self.order):
            self.rng.shuffle(self.order)
            self.next = 0
        part, i = self.order[self.next]
        self.next += 1
        pictures, scenes = self.parts[part]
        return brighten(pictures[i], self.rng), scenes[i]


def vision_batches(pool, batch, rng):
    """Letters take the tower longest to learn, so every other scene without a word is skipped."""
    drawn = []
    while True:
        picture, scene = pool.draw()
        if scene["word"] or rng.random() < 0.5:
            drawn.append((picture, scene))
        if len(drawn) == batch:
            yield pictures_and_patches(drawn)
            drawn = []


def pictures_and_patches(drawn):
    labels = [patch_labels(scene) for _, scene in drawn]
    return {
        "pictures": np.stack([p for p, _ in drawn]),
        "patches": {k: np.stack([x[k] for x in labels]) for k in labels[0]},
    }


def prompt_batches(pool, batch, encoder, rng, packed):
    """Each picture goes into the bucket of one text length, picked in proportion to how well its
    prompts fill it; a full bucket is a batch."""
    spec = PACKED if packed else FULL
    n_pictures = batch if packed else round(batch * FULL_SHARE)
    buckets = {length: [] for length in spec}
    while True:
        picture, scene = pool.draw()
        prompts = draw_prompts(scene, encoder, rng, tries=14 if packed else 8)
        shorter = 0
        for length, k in spec.items():
            fit = [p for p in prompts if shorter < len(p[1]) + len(p[2]) - 1 <= length]
            shorter = length
            if not fit or rng.random() > len(fit) / k:
                continue
            fit = (fit * k)[:k]
            buckets[length].append(((picture, scene), fit))
            if len(buckets[length]) == n_pictures:
                full, buckets[length] = buckets[length], []
                texts = text_arrays([p for _, fit in full for p in fit], length)
                if packed:
                    for name in ("ids", "is_prompt"):
                        texts[name] = texts[name].reshape(n_pictures, k, length)
                yield {**pictures_and_patches([d for d, _ in full]), **texts}


def produce(queue, phase, cache, tokenizer_dir, batch, seed):
    os.nice(5)
    rng = random.Random(seed)
    pool = Pool(cache, rng)
    if phase == "vision":
        source = vision_batches(pool, batch, rng)
    else:
        source = prompt_batches(pool, batch, Encoder(tokenizer_dir), rng, phase == "packed")
    for item in source:
        queue.put(item)


class Batches:
    """with Batches(...) as batches: batches.get()"""

    def __init__(self, *args):
        context = multiprocessing.get_context("fork")
        self.queue = context.Queue(6)
        self.process = context.Process(target=produce, args=(self.queue, *args), daemon=True)

    def __enter__(self):
        self.process.start()
        return self.queue

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()


def is_loc(label):
    return (label >= LOC0) & (label < LOC0 + 1024)
