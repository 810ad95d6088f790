#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 600
"""paligrid convert: a converted model gives the answers that loading in that form gives, to the last
bit and on any number of ranks; and whatever is wrong with such a file is named."""
import json
import os
import shutil
import sys
import tempfile

import h5py
import numpy as np

from program_case import DEMO, DEMO_IMAGES, check, on_ranks, program, verdict

IMAGE = os.path.join(DEMO_IMAGES, "02_one_224.jpg")
QUERY = "language_model.model.layers.0.self_attn.q_proj.weight"
def answer(model, *args, ranks=1):
    rc, out, err = program("run", "--model", model, "--json", "--prompt", "caption en", *args, IMAGE, launch=on_ranks(ranks))
    check(f"run {model} {args} on {ranks} ranks", rc == 0, err)
    row = json.loads(out) if rc == 0 else {}
    return {k: row.get(k) for k in ("text", "tokens", "logprob", "weights")}


def convert(model, form, out, *args):
    rc, _, err = program("convert", "--model", model, "--weights", form, "--out", out, *args)
    check(f"convert {model} to {form}", rc == 0, err)


def test_same_answers(tmp):
    for form in ("auto", "bf16", "int8", "int4"):
        path = os.path.join(tmp, form + ".h5")
        convert(DEMO, form, path)
        want = answer(DEMO, "--weights", form)
        check("an answer", want["text"], want)
        for ranks in (1, 2, 4):
            got = answer(path, ranks=ranks)
            check(f"{form} on {ranks} ranks", got == want, (got, want))
        for model in (path, DEMO) if form == "auto" else (path,):
            for ranks in (1, 3):
                got = answer(model, "--load", "map", ranks=ranks)
                check(f"{model} in place on {ranks} ranks", got == want, (got, want))
        _, _, err = program("run", "--model", path, "--load", "map", "--prompt", "x", IMAGE)
        check(f"{form}: something is used in place", " GB in place" in err and "uses 0.000 GB" not in err, err)


def test_groups_and_conversions_of_conversions(tmp):
    wide, again = os.path.join(tmp, "wide.h5"), os.path.join(tmp, "again.h5")
    convert(DEMO, "int4", wide, "--int4-group", "64")
    check("groups of 64", answer(wide) == answer(DEMO, "--weights", "int4", "--int4-group", "64"))
    convert(os.path.join(tmp, "auto.h5"), "int8", again)
    check("int8 of a converted bf16", answer(again) == answer(DEMO, "--weights", "int8"))
    rc, out, _ = program("info", "--json", os.path.join(tmp, "int4.h5"))
    check("info", rc == 0 and json.loads(out)["plan"], out)


def test_formula(tmp):
    path = os.path.join(tmp, "formula.h5")
    model = "synthetic:3b-224?layers=1&vision_layers=1"
    convert(model, "int4", path)
    rc, out, err = program("run", "--model", path, "--json", "-n", "2", "--prompt", "x", IMAGE)
    rc2, out2, _ = program("run", "--model", model, "--weights", "int4", "--json", "-n", "2", "--prompt", "x", IMAGE)
    same = rc == rc2 == 0 and json.loads(out)["logprob"] == json.loads(out2)["logprob"]
    check("a formula, converted", same, err)
    os.unlink(path)


def refused(what, path, *words, args=(), ranks=(1,)):
    for n in ranks:
        rc, out, err = program("run", "--model", path, "--prompt", "x", *args, IMAGE, launch=on_ranks(n))
        told = [line for line in err.splitlines() if " error " in line]
        check(f"{what} on {n} ranks", rc == 78 and out == "" and told and all(w in told[0] for w in words), (rc, err))


def damaged(tmp, name, change):
    path = os.path.join(tmp, name)
    shutil.copy(os.path.join(tmp, "int8.h5"), path)
    with h5py.File(path, "r+") as f:
        change(f)
    return path


def with_index(change):
    def apply(f):
        index = json.loads(f["index"][:].tobytes())
        change(index)
        del f["index"]
        f["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    return apply


def entry(index, name=QUERY):
    return next(t for t in index["tensors"] if t["name"] == name)


def put_nan(f):
    scales = f[f"tensors/{QUERY}/scale"]
    rows = scales[:].view("<f4")
    rows[3] = np.nan
    scales[...] = rows.view(np.uint8)


def drop(key):
    def apply(f):
        del f[key]
    return apply


def test_bad_files(tmp):
    refused("another form", os.path.join(tmp, "int8.h5"), "int8.h5", "Q8", args=("--weights", "int4"), ranks=(1, 2))
    refused("no index", damaged(tmp, "a.h5", drop("index")), "a.h5", "/index")
    refused("no tensor", damaged(tmp, "b.h5", drop(f"tensors/{QUERY}/data")), "b.h5", QUERY)
    refused("no scales", damaged(tmp, "c.h5", drop(f"tensors/{QUERY}/scale")), "c.h5", QUERY)
    refused("no configuration", damaged(tmp, "d.h5", drop("files/config.json")), "d.h5", "config.json")
    refused("no tokenizer", damaged(tmp, "e.h5", drop("files/tokenizer.model")), "e.h5", "tokenizer.model")
    refused("a NaN scale", damaged(tmp, "f.h5", put_nan), "f.h5", QUERY, "row 3", ranks=(1, 2))
    refused("a wrong shape", damaged(tmp, "g.h5", with_index(lambda x: entry(x)["shape"].reverse())), "g.h5", QUERY)
    refused("a wrong type", damaged(tmp, "h.h5", with_index(lambda x: entry(x).update(dtype="Q9"))), "h.h5", QUERY, "Q9")
    refused("a missing entry", damaged(tmp, "i.h5", with_index(lambda x: x["tensors"].remove(entry(x)))), QUERY, "missing")
    refused("a twin", damaged(tmp, "j.h5", with_index(lambda x: x["tensors"].append(entry(x)))), QUERY)
    refused("a newer version", damaged(tmp, "k.h5", with_index(lambda x: x.update(version=2))), "k.h5", "version 2")
    refused("another format", damaged(tmp, "l.h5", with_index(lambda x: x.update(format="x"))), "l.h5")
    norm = "language_model.model.norm.weight"
    refused("a quantised norm", damaged(tmp, "m.h5", with_index(lambda x: entry(x, norm).update(dtype="Q8"))), "m.h5", norm)
    cut = os.path.join(tmp, "cut.h5")
    with open(os.path.join(tmp, "int8.h5"), "rb") as f:
        data = f.read()
    with open(cut, "wb") as f:
        f.write(data[:len(data) // 2])
    refused("half a file", cut, "cut.h5", ranks=(1, 2))
    with open(cut, "wb") as f:
        f.write(b"not HDF5 at all")
    refused("something else", cut, "cut.h5")


def test_bad_commands(tmp):
    rc, _, err = program("convert", "--model", DEMO)
    check("no --out", rc == 64 and "--out" in err, err)
    rc, _, err = program("convert", "--model", DEMO, "--out", "/nowhere/model.h5")
    check("nowhere to write", rc == 74 and "/nowhere/model.h5" in err, (rc, err))
    rc, _, err = program("convert", "--model", os.path.join(tmp, "int8.h5"), "--weights", "int4", "--out", os.path.join(tmp, "z.h5"))
    check("quantised twice", rc == 78 and "Q8" in err and not os.path.exists(os.path.join(tmp, "z.h5")), (rc, err))
    check("nothing half-written", not [n for n in os.listdir(tmp) if n.endswith(".tmp")], os.listdir(tmp))


def main():
    tmp = tempfile.mkdtemp(prefix="paligrid-convert-")
    try:
        for test in (test_same_answers, test_groups_and_conversions_of_conversions, test_formula, test_bad_files, test_bad_commands):
            test(tmp)
    finally:
        shutil.rmtree(tmp)
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
