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


def make(folder, preset, layers=None, vision_layers=None):
    """Writes it to folder/PRESET... unless it is there; its path. Bench needs no tokenizer, so its files only have to be there."""
    name = synthetic(preset, layers, vision_layers).split(":")[1].translate(str.maketrans("?&=", "---"))
    out, tokenizer = os.path.join(folder, name), os.path.join(folder, "tokenizer")
    if os.path.exists(os.path.join(out, "complete")):
        return out
    if not os.path.exists(tokenizer):
        shutil.copytree(os.path.join(ROOT, "tests", "data", "oracle", "ckpt_micro"), tokenizer)
        with open(os.path.join(tokenizer, "added_tokens.json"), "w") as f:
            json.dump({"<image>": IMAGE_TOKEN}, f)
    argv = [sys.executable, os.path.join(ROOT, "scripts", "oracle", "make_model.py"), "--preset", preset, "--tokenizer", tokenizer, "--out", out]
    for key, value in (("--layers", layers), ("--vision-layers", vision_layers)):
        argv += [key, str(value)] if value else []
    subprocess.run(argv, check=True, stdout=sys.stderr)
    with open(os.path.join(out, "complete"), "w"):
        return out
