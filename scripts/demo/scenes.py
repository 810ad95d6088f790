"""Procedural scenes: coloured shapes and printed words on a plain or graded background.

A scene is a JSON-able dictionary in units of the 112 pixel picture the model sees:
    kind        one | two | three | count | sign
    background  [rgb, rgb, vertical], the two ends of a gradient (often the same colour)
    objects     left to right: shape, colour, rgb, x, y, r (centre and size), tilt, box x0 y0 x1 y1
    word        printed text or None, with word_box, word_edges (x of the letter borders),
                word_rgb, plate (rgb behind it, or None), font_px, bold
make_scene draws one at random; render turns it into a picture of any size. The only font is the
one inside Pillow (Aileron, CC0), so that nothing depends on what the system has installed.
"""

import io
import json
import math
import multiprocessing
import random
import string
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .language import COLOURS, SHAPES, WORDS_HELD, WORDS_TRAIN

SIZE_PX = 112
RGB = {
    "red": (215, 35, 35),
    "yellow": (240, 220, 30),
    "green": (35, 155, 55),
    "blue": (35, 75, 215),
    "purple": (140, 45, 165),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
}
KIND_WEIGHTS = {"one": 12, "two": 22, "three": 22, "count": 14, "sign": 30}
RADIUS_PX = {1: (14, 36), 2: (13, 24), 3: (12, 17), 4: (11, 14), 5: (10, 12)}
MIN_CONTRAST = 140  # sum of the absolute RGB differences


def outline(shape, tilt):
    """The corners of a shape of radius 1, turned by tilt; None for the circle."""
    if shape == "circle":
        return None
    if shape == "square":
        points = [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    elif shape == "triangle":
        points = [(0, -0.95), (0.95, 0.8), (-0.95, 0.8)]
    elif shape == "star":
        points = [
            (
                math.sin(k * math.pi / 5) * (0.42 if k % 2 else 1),
                -math.cos(k * math.pi / 5) * (0.42 if k % 2 else 1),
            )
            for k in range(10)
        ]
    elif shape == "cross":
        w = 0.32
        points = [
            (-w, -1),
            (w, -1),
            (w, -w),
            (1, -w),
            (1, w),
            (w, w),
            (w, 1),
            (-w, 1),
            (-w, w),
            (-1, w),
            (-1, -w),
            (-w, -w),
        ]
    else:
        turns = [2 * math.pi * k / 32 for k in range(32)]
        points = [
            (
                math.sin(t) ** 3,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
                / 16,
            )
            for t in turns
        ]
    c, s = math.cos(tilt), math.sin(tilt)
    return [(x * c - y * s, x * s + y * c) for x, y in points]


def make_object(rng, shape, colour, x, y, r):
    tilt = rng.uniform(-0.14, 0.14)
    corners = outline(shape, tilt) or [(-1, -1), (1, 1)]
    xs, ys = zip(*corners)
    rgb = [min(255, max(0, v + rng.randint(-14, 14))) for v in RGB[colour]]
    return {
        "shape": shape,
        "colour": colour,
        "rgb": rgb,
        "x": x,
        "y": y,
        "r": r,
        "tilt": tilt,
        "box": [x + min(xs) * r, y + min(ys) * r, x + max(xs) * r, y + max(ys) * r],
    }


def make_background(rng):
    def grey():
        v = rng.randint(100, 205)
        return [v + rng.randint(-15, 15) for _ in range(3)]

    first = grey()
    return [first, grey() if rng.random() < 0.4 else first, rng.random() < 0.5]


def contrast(a, b):
    return sum(abs(p - q) for p, q in zip(a, b))


def place(rng, n, keep_out=None):
    """n circles (x, y, r) without overlap, their centres at least 8 pixels apart from left to
    right so that the telling order is plain; None if they do not fit."""
    spots = []
    for _ in range(200):
        r = rng.uniform(*RADIUS_PX[n])
        x, y = (rng.uniform(r + 2, SIZE_PX - r - 2) for _ in range(2))
        free = all(max(abs(x - u), abs(y - v)) > r + q + 3 and abs(x - u) >= 8 for u, v, q in spots)
        if keep_out and free:
            x0, y0, x1, y1 = keep_out
            free = x + r + 3 < x0 or x - r - 3 > x1 or y + r + 3 < y0 or y - r - 3 > y1
        if free:
            spots.append((x, y, r))
            if len(spots) == n:
                return sorted(spots)
    return None


@lru_cache(None)
def font(size_px):
    return ImageFont.load_default(size_px)


@lru_cache(None)
def letter_width(letter):
    """Advance of a letter in units of the font size; narrow letters get a wider cell."""
    return max(0.55, font(100).getlength(letter) / 100) + 0.08


def make_word(rng, words):
    if rng.random() < 0.4:
        return rng.choice(words)
    n = rng.choice((1, 2, 3, 3, 4, 4, 5, 5, 6, 6))
    return "".join(rng.choice(string.ascii_uppercase) for _ in range(n))


def make_sign(rng, background, words):
    """The word's part of a scene."""
    word = make_word(rng, words)
    widths = [letter_width(c) for c in word]
    largest = min(34, (SIZE_PX - 8) / sum(widths))
    if largest < 15:
        return None
    size = rng.uniform(max(15, 0.75 * largest), largest)
    width, height = sum(widths) * size, 0.72 * size
    x, y = rng.uniform(4, SIZE_PX - 4 - width), rng.uniform(5, SIZE_PX - 5 - height)
    plate = rng.choice((None, None, RGB["white"], RGB["black"], RGB["yellow"]))
    behind = [plate] if plate else background[:2]
    inks = [RGB[c] for c in COLOURS if all(contrast(RGB[c], b) > 220 for b in behind)]
    if not inks:
        return None
    edges = [x]
    for w in widths:
        edges.append(edges[-1] + w * size)
    return {
        "word": word,
        "word_box": [x, y, x + width, y + height],
        "word_edges": edges,
        "word_rgb": rng.choice(inks),
        "plate": plate,
        "font_px": size,
        "bold": rng.random() < 0.6,
    }


def make_scene(rng, kind=None, words=WORDS_TRAIN):
    while True:
        k = kind or rng.choices(list(KIND_WEIGHTS), KIND_WEIGHTS.values())[0]
        background = make_background(rng)
        scene = {"kind": k, "background": background, "objects": [], "word": None}
        colours = [
            c for c in COLOURS if all(contrast(RGB[c], b) > MIN_CONTRAST for b in background[:2])
        ]
        if len(colours) < 4:
            continue
        keep_out = None
        if k == "sign":
            sign = make_sign(rng, background, words)
            if not sign:
                continue
            scene.update(sign)
            keep_out = sign["word_box"]
        n = {
            "one": 1,
            "two": 2,
            "three": 3,
            "count": rng.randint(2, 5),
            "sign": int(rng.random() < 0.5),
        }[k]
        spots = place(rng, n, keep_out) if n else []
        if spots is None:
            continue
        if k == "count":
            names = [(rng.choice(SHAPES), rng.choice(colours))] * n
        else:
            # Few shapes and colours in one scene make names that share one half.
            some_shapes, some_colours = rng.sample(SHAPES, 2), rng.sample(colours, 2)
            crowded = rng.random() < 0.4
            names = [
                (
                    rng.choice(some_shapes if crowded else SHAPES),
                    rng.choice(some_colours if crowded else colours),
                )
                for _ in spots
            ]
            if len(set(names)) < n:
                continue
        scene["objects"] = [make_object(rng, *m, *spot) for m, spot in zip(names, spots)]
        return scene


def render(scene, size_px):
    """The scene as an RGB picture, drawn at twice the size and reduced."""
    n = 2 * size_px
    k = n / SIZE_PX
    first, second, vertical = scene["background"]
    t = np.linspace(0, 1, n, dtype=np.float32)
    t = t[:, None, None] if vertical else t[None, :, None]
    ramp = np.float32(first) * (1 - t) + np.float32(second) * t
    picture = Image.fromarray(np.broadcast_to(ramp, (n, n, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for o in scene["objects"]:
        corners = outline(o["shape"], o["tilt"])
        x, y, r = o["x"] * k, o["y"] * k, o["r"] * k
        if corners is None:
            draw.ellipse([x - r, y - r, x + r, y + r], fill=tuple(o["rgb"]))
        else:
            draw.polygon([(x + u * r, y + v * r) for u, v in corners], fill=tuple(o["rgb"]))
    if scene["word"]:
        draw_word(draw, scene, k)
    return picture.resize((size_px, size_px), Image.BICUBIC)


def draw_word(draw, scene, k):
    size = scene["font_px"]
    x0, y0, x1, y1 = scene["word_box"]
    if scene["plate"]:
        m = 3
        draw.rectangle(
            [(x0 - m) * k, (y0 - m) * k, (x1 + m) * k, (y1 + m) * k], fill=tuple(scene["plate"])
        )
    edges = scene["word_edges"]
    stroke = 0.035 * size * k if scene["bold"] else 0
    for letter, a, b in zip(scene["word"], edges, edges[1:]):
        draw.text(
            ((a + b) / 2 * k, y1 * k),
            letter,
            font=font(round(size * k)),
            anchor="ms",
            fill=tuple(scene["word_rgb"]),
            stroke_width=stroke,
        )


def training_picture(scene, rng):
    """[112, 112, 3] uint8, as the processor would make it from a file of one of several sizes."""
    picture = render(scene, rng.choice((112, 112, 112, 160, 224)))
    if rng.random() < 0.25:
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=rng.randint(80, 95))
        picture = Image.open(jpeg)
    return np.asarray(picture.resize((SIZE_PX, SIZE_PX), Image.BICUBIC))


def write_part(job):
    """One part of the cache: n scenes of a seed, pictures as .npy and scenes as .json."""
    path, n, seed, words = job
    rng = random.Random(seed)
    pictures = np.lib.format.open_memmap(f"{path}.npy", "w+", np.uint8, (n, SIZE_PX, SIZE_PX, 3))
    scenes = []
    for i in range(n):
        scenes.append(make_scene(rng, words=words))
        pictures[i] = training_picture(scenes[-1], rng)
    pictures.flush()
    Path(f"{path}.json").write_text(json.dumps(scenes))


def write_cache(folder, n_train, n_held, processes=2):
    """Training and held-out scenes. The held-out ones have a seed and words of their own."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = 8
    jobs = [
        (str(folder / f"train{i}"), n_train // parts, 1000 + i, WORDS_TRAIN) for i in range(parts)
    ]
    jobs.append((str(folder / "held"), n_held, 9001, WORDS_HELD))
    jobs = [j for j in jobs if not Path(j[0] + ".json").exists()]
    with multiprocessing.Pool(processes) as pool:
        pool.map(write_part, jobs, chunksize=1)


def read_part(folder, part):
    folder = Path(folder)
    return np.load(folder / f"{part}.npy", mmap_mode="r"), json.loads(
        (folder / f"{part}.json").read_text()
    )
