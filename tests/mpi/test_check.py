#!/usr/bin/env python3
# RANKS: 1
"""`paligrid check`: what is in order, what is wrong, by name, and with the exit status of a run."""
import hashlib
import json
import os
import shutil
import subprocess
import sys

from program_case import DATA, MICRO, TMP, check, program, verdict

IMAGES = os.path.join(DATA, "images")
def run(*args, **env):
    status, text, err = program("check", "--json", *args, env={**os.environ, **env})
    rows = [json.loads(line) for line in text.splitlines()]
    return status, {r["check"]: r for r in rows}, rows, err


model = os.path.join(TMP, "model")
shutil.copytree(MICRO, model)
weights = os.path.join(model, "model.safetensors")

code, by, _, _ = run("-m", model)
check("no list yet", code == 0 and by["weights"]["result"] == "warning" and by["model"]["result"] == "ok" and by["tokenizer"]["result"] == "ok", by)
code, by, _, _ = run("-m", model, "--write-index")
check("the list is written", code == 0 and "written" in by["weights"]["detail"], by)
with open(os.path.join(model, "SHA256SUMS")) as f:
    listed = dict(reversed(line.split()) for line in f)
check("as sha256sum writes it", listed["model.safetensors"] == hashlib.sha256(open(weights, "rb").read()).hexdigest() and list(listed) == sorted(listed), listed)
check("sha256sum reads it", subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=model).returncode == 0)
code, by, _, _ = run("-m", model)
check("compared", code == 0 and by["weights"]["result"] == "ok" and f"{len(listed)} files" in by["weights"]["detail"], by)
with open(os.path.join(model, "extra.txt"), "w") as f:
    f.write("x")
code, by, _, _ = run("-m", model)
check("a file that is not listed", code == 0 and by["weights"]["result"] == "warning" and "extra.txt" in by["weights"]["detail"], by)
with open(weights, "r+b") as f:
    f.seek(-1, os.SEEK_END)
    last = f.read(1)
    f.seek(-1, os.SEEK_END)
    f.write(bytes([last[0] ^ 1]))
code, by, _, err = run("-m", model)
check("one bit", code == 78 and by["weights"]["result"] == "FAILED" and "model.safetensors: SHA-256 is" in by["weights"]["detail"] and "ERR_MODEL" in err, by)
for text, words in (("abc  model.safetensors\n", "line 1: not 64"), ("0" * 64 + "  ../x\n", "outside"), ("0" * 64 + "  gone.bin\n", "gone.bin"), ("# nothing\n", "names nothing")):
    index = os.path.join(TMP, "list")
    with open(index, "w") as f:
        f.write(text)
    code, by, _, _ = run("-m", model, "--index", index)
    check(f"list {text[:20]!r}", code == 78 and words in by["weights"]["detail"], by)
check("no such list", run("-m", model, "--index", "/nonexistent")[0] == 74)
check("no such model", run("-m", "/nonexistent")[0] == 78)
os.unlink(os.path.join(model, "tokenizer.model"))
code, by, _, _ = run("-m", model, "--index", "/nonexistent")
check("the first failure gives the status", code == 78 and by["tokenizer"]["result"] == "FAILED", by)

SYNTHETIC = ["-m", "synthetic:" + os.path.join(MICRO, "config.json")]
manifest = os.path.join(TMP, "records.jsonl")
with open(manifest, "w") as f:
    for i in range(5):
        f.write(json.dumps({"id": str(i), "image": os.path.join(IMAGES, "rgb.png"), "prefix": "caption en"}) + "\n")
    f.write(json.dumps({"id": "5", "image": "/nonexistent.png", "prefix": "caption en"}) + "\nnot JSON\n")
out = os.path.join(TMP, "new", "out")
code, by, rows, _ = run(*SYNTHETIC, "-i", manifest, "-o", out)
check("records are counted", code == 0 and "7 records" in by["input"]["detail"] and "1 records unusable, 1 without" in by["input"]["detail"] and by["input"]["result"] == "warning", by)
named = [r["detail"] for r in rows if r["check"] == ""]
check("the first ones are named", len(named) == 2 and "line 6" in named[0] and "/nonexistent.png" in named[0] and "line 7" in named[1], named)
check("the output", by["output"]["result"] == "ok" and "will be made" in by["output"]["detail"] and not os.path.exists(os.path.dirname(out)), by)
check("room", by["space"]["result"] in ("ok", "warning") and "7 records" in by["space"]["detail"], by)
code, by, _, _ = run(*SYNTHETIC, "-i", manifest, "--limit", "3")
check("--limit", code == 0 and "3 records (as far as --limit)" in by["input"]["detail"], by)
with open(manifest, "w") as f:
    f.write("\n".join("not JSON" for _ in range(120)) + "\n")
code, by, _, _ = run(*SYNTHETIC, "-i", manifest, "--format", "manifest")
check("too many are bad", code == 65 and by["input"]["result"] == "FAILED", by)
check("no input", run(*SYNTHETIC, "-i", "/nonexistent.jsonl")[0] != 0)
code, by, _, _ = run(*SYNTHETIC, "-o", "/proc/paligrid-out")
check("an output that cannot be written", code == 74 and by["output"]["result"] == "FAILED", by)
code, by, _, _ = run(*SYNTHETIC, SLURM_JOB_END_TIME="1")
check("a job that ends", by["time"]["result"] == "warning", by)
code, by, _, _ = run(*SYNTHETIC, "--deadline", "7200")
check("time enough", by["time"]["result"] == "ok" and "7200 s" in by["time"]["detail"], by)
check("a model is needed", program("check")[0] == 64)
sys.exit(verdict())
