#!/usr/bin/env python3
# TIMEOUT: 600
"""The packed files as their readers see them: results.h5 through h5py (the two lines of the README), the COCO
files through pycocotools, the others through json. The records are those of tests/unit/test_results_pack.c.

pycocotools comes from PyPI into a virtual environment of the build folder; without it that part is skipped.
"""
import json
import os
import subprocess
import sys

import h5py
import numpy as np

from program_case import BUILD, TMP, check, main, python_with, skip

OUT = os.path.join(TMP, "out")
TWO_BOXES = "<loc0100><loc0200><loc0300><loc0400> dog ; <loc0000><loc0000><loc1023><loc1023> cat"
COCO = """
import json, sys
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

out = sys.argv[1]
categories = json.load(open(out + "/categories.json"))["categories"]
truth = {"info": {}, "images": [{"id": 397133, "width": 1023, "height": 2046}], "categories": categories,
         "annotations": [{"id": 1, "image_id": 397133, "category_id": 1, "bbox": [200, 200, 200, 400], "area": 80000, "iscrowd": 0},
                         {"id": 2, "image_id": 397133, "category_id": 2, "bbox": [0, 0, 1023, 2046], "area": 2093058, "iscrowd": 0}]}
json.dump(truth, open(out + "/truth.json", "w"))
coco = COCO(out + "/truth.json")
found = coco.loadRes(out + "/coco_detections.json")
boxes = found.loadAnns(found.getAnnIds(imgIds=[397133]))
assert [b["bbox"] for b in boxes] == [[200, 200, 200, 400], [0, 0, 1023, 2046]], boxes
assert all(abs(b["score"] - np.exp(-0.5)) < 1e-12 for b in boxes), boxes
e = COCOeval(coco, found, "bbox")
e.evaluate(), e.accumulate(), e.summarize()
assert e.stats[0] > 0.999, e.stats
captions = [c for c in json.load(open(out + "/coco_captions.json")) if c["image_id"] == 397133]
json.dump(captions, open(out + "/captions_of_the_image.json", "w"))
read = coco.loadRes(out + "/captions_of_the_image.json")
assert [a["caption"] for a in read.loadAnns(read.getAnnIds())] == [sys.stdin.read()]
"""


def make_sample():
    subprocess.run([os.path.join(BUILD, "tests", "unit", "test_results_pack"), TMP], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rows(name):
    with open(os.path.join(OUT, name), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def column(f, name):
    """The README's two lines."""
    offsets, data = f[name + "/offsets"][:], f[name + "/bytes"][:].tobytes()
    return [data[a:b].decode() for a, b in zip(offsets, offsets[1:])]


def test_h5():
    with h5py.File(os.path.join(OUT, "results.h5"), "r") as f:
        check("attributes", f.attrs["format"] == "paligrid results" and f.attrs["format_version"] == 1 and f.attrs["model_digest"] == "00ff", dict(f.attrs))
        check("settings", dict(f["settings"].attrs) == {"prompt": "caption en", "model": "00ff", "max_new_tokens": "20"}, dict(f["settings"].attrs))
        check("texts", column(f, "text") == [TWO_BOXES, "a\ufffdb", "", TWO_BOXES, TWO_BOXES], column(f, "text"))
        check("ids", column(f, "id") == ["q1", "00042", "plain", "77", "plain"], column(f, "id"))
        check("images", column(f, "image") == ['a "b".jpg', "", 'a "b".jpg', 'a "b".jpg', 'a "b".jpg'], column(f, "image"))
        check("suffixes", column(f, "suffix") == ["<loc0001>", "", "", "", ""], column(f, "suffix"))
        check("reasons", column(f, "reason") == ["", "", "layer 3 left the range", "", ""], column(f, "reason"))
        check("labels", column(f, "boxes/label") == ["dog", "cat"] * 3, column(f, "boxes/label"))
        check("types", [f[n].dtype for n in ("index", "status", "finish", "logprob", "text/offsets", "text/bytes", "tokens/ids", "boxes/xyxy")] ==
              [np.int64, np.uint8, np.uint8, np.float64, np.uint64, np.uint8, np.int32, np.float32])
        check("log-probabilities", np.array_equal(f["logprob"][:], [-1, np.nan, np.nan, -1, -1], equal_nan=True), f["logprob"][:])
        o = f["boxes/offsets"][:]
        check("boxes of the first record", f["boxes/xyxy"][o[0]:o[1]].tolist() == [[200, 200, 400, 600], [0, 0, 1023, 2046]], f["boxes/xyxy"][:])
        check("no pixels for two images", np.isnan(f["boxes/xyxy"][o[3]:o[4]]).all(), f["boxes/xyxy"][:])
        check("no segments", f["boxes/seg"].shape == (6, 16) and (f["boxes/seg"][:] == -1).all(), f["boxes/seg"][:])
        check("tokens", f["tokens/offsets"][:].tolist() == [0, 2, 4, 4, 6, 8] and f["tokens/ids"][:2].tolist() == [5, 1], f["tokens/ids"][:])


def test_json():
    check("results", [r["index"] for r in rows("results.jsonl")] == [0, 1, 3, 4])
    check("members", list(rows("results.jsonl")[0]) == ["index", "id", "image", "prompt", "suffix", "text", "tokens", "token_ids", "finish", "logprob", "boxes",
                                                        "malformed_boxes"], list(rows("results.jsonl")[0]))
    check("no image is null", rows("results.jsonl")[1]["image"] is None and rows("results.jsonl")[1]["logprob"] is None)
    check("errors", [(r["id"], r["class"]) for r in rows("errors.jsonl")] == [("plain", "range")])
    answers = {r["custom_id"]: r for r in rows("openai.jsonl")}
    check("usage", answers["77"]["response"]["body"]["usage"] == {"prompt_tokens": 260, "completion_tokens": 2, "total_tokens": 262})
    check("folder", [r["file_name"] for r in rows("metadata.jsonl")] == ['a "b".jpg'] * 2)
    for name in ("run.json", "stats.json", "_SUCCESS", "vqa.json", "categories.json"):
        with open(os.path.join(OUT, name), encoding="utf-8") as f:
            json.load(f)


def test_coco():
    python = python_with("pycocotools", "pycocotools.cocoeval", "--no-deps")
    if not python:
        skip("h5py and json were checked; pycocotools cannot be had from PyPI")
    r = subprocess.run([python, "-c", COCO, OUT], input=TWO_BOXES, capture_output=True, text=True)
    check("pycocotools", r.returncode == 0, r.stdout + r.stderr)


if __name__ == "__main__":
    sys.exit(main([make_sample, test_h5, test_json, test_coco]))
