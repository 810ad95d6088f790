"""The demo's pictures and prompts, and what transformers answers to them.

    demo/images/          a dozen scenes of a seed of their own, PNG and JPEG of several sizes
    demo/prompts.tsv      file <tab> prompt
    demo/truth.tsv        file <tab> prompt <tab> the right answer
    demo/expected.tsv     file <tab> prompt <tab> transformers' greedy answer, float32, eager

The scenes are drawn by kind in a fixed order and not looked at: what the model gets wrong on them
it gets wrong in the demo too.
"""

import random
import shutil
from pathlib import Path

import torch

from . import language, scenes
from .evaluate import MAX_NEW, load

SEED = 20260
# kind, side in pixels, file type, the kinds of prompts with their language
PLAN = (
    ("one", 112, "png", "caption en, detect en, shape it"),
    ("one", 224, "jpg", "caption it, exists it, colour en"),
    ("two", 160, "png", "caption en, relation en, what it"),
    ("two", 224, "jpg", "caption it, what en, detect it"),
    ("three", 224, "png", "caption en, relation it, detect en, exists en"),
    ("three", 160, "jpg", "caption it, colour it, relation en, detect en"),
    ("three", 112, "png", "caption en, shape en, exists it"),
    ("count", 224, "png", "caption en, count it, detect en"),
    ("count", 160, "jpg", "caption it, count en, exists en"),
    ("sign", 112, "png", "ocr, caption en, detect en"),
    ("sign", 224, "jpg", "ocr, caption it"),
    ("sign", 160, "png", "ocr, caption en"),
)


def draw_samples():
    """[(file name, scene, size, [(prompt, right answer)])]"""
    rng = random.Random(SEED)
    out = []
    for i, (kind, size_px, suffix, wanted) in enumerate(PLAN):
        scene = scenes.make_scene(rng, kind, language.WORDS_HELD)
        asked = []
        for item in wanted.split(", "):
            what, _, lang = item.partition(" ")
            one = language.ask(scene, rng, what, lang or None)
            if one:
                asked.append(one[1:])
        out.append((f"{i + 1:02d}_{kind}_{size_px}.{suffix}", scene, size_px, asked))
    return out


def write_samples(demo):
    demo = Path(demo)
    images = demo / "images"
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    samples = draw_samples()
    for name, scene, size_px, _ in samples:
        scenes.render(scene, size_px).save(images / name, quality=92)
    rows = [(name, p, a) for name, _, _, asked in samples for p, a in asked]
    write_table(demo / "prompts.tsv", [r[:2] for r in rows])
    write_table(demo / "truth.tsv", rows)


def write_table(path, rows):
    path.write_text("".join("\t".join(r) + "\n" for r in rows), encoding="utf-8")


@torch.no_grad()
def write_expected(demo):
    """Asks the exported folder everything in prompts.tsv, through transformers' own processor."""
    from PIL import Image
    from transformers import AutoProcessor

    demo = Path(demo)
    model, processor = load(demo / "model"), AutoProcessor.from_pretrained(demo / "model")
    rows = []
    for line in (demo / "prompts.tsv").read_text(encoding="utf-8").splitlines():
        name, prompt = line.split("\t")
        picture = Image.open(demo / "images" / name).convert("RGB")
        inputs = processor(text="<image>" + prompt, images=picture, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=MAX_NEW, do_sample=False)
        text = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        rows.append((name, prompt, text))
    write_table(demo / "expected.tsv", rows)
    return rows
