"""Checkpoints of real dimensions with deterministic weights, the same as `--model synthetic:` makes."""
import json
import os
import shutil
import subprocess
import sys

from .paligrid import ROOT

IMAGE_TOKEN = 257152  # of the published tokenizer: the whole vocabulary is computed


def synthetic(preset, layers=None, vision_layers=None):
    """paligrid's name of a model that needs no files."""
    options = "&".join(f"{k}={v}" for k, v in (("layers", layers), ("vision_layers", vision_layers)) if v)
    return f"synthetic:{preset}" + (f"?{options}" if options else "")


def tokenizer(scratch):
    """A folder of a tokenizer's files; bench needs none, so they only have to be there. It has its name when it is complete."""
    part = scratch.make("tokenizer.part")
    out = scratch.make("tokenizer")
    if not os.path.exists(out):
        shutil.copytree(os.path.join(ROOT, "tests", "data", "oracle", "ckpt_micro"), part, dirs_exist_ok=True)
        with open(os.path.join(part, "added_tokens.json"), "w") as f:
            json.dump({"<image>": IMAGE_TOKEN}, f)
        os.rename(part, out)
    return out


def make(scratch, preset, layers=None, vision_layers=None):
    """Writes it to PRESET... in the scratch folder unless it is there; its path."""
    name = synthetic(preset, layers, vision_layers).split(":")[1].translate(str.maketrans("?&=", "---"))
    out = scratch.make(name)
    if os.path.exists(os.path.join(out, "complete")):
        return out
    argv = [sys.executable, os.path.join(ROOT, "scripts", "oracle", "make_model.py"), "--preset", preset, "--tokenizer", tokenizer(scratch), "--out", out]
    for key, value in (("--layers", layers), ("--vision-layers", vision_layers)):
        argv += [key, str(value)] if value else []
    subprocess.run(argv, check=True, stdout=sys.stderr)
    with open(os.path.join(out, "complete"), "w"):
        return out
