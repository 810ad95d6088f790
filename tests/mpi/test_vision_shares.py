#!/usr/bin/env python3
# RANKS: 1 2 3 5
"""SigLIP's real width beside the demo's small decoder: pairs of heads and 20 grains of 224 columns give the same answers and
log-probabilities on any number of ranks."""
import json
import os
import shutil
import sys
import tempfile

from program_case import DEMO, DEMO_IMAGES, LAUNCH, RANKS, TMP, check, main, program, tests_in

IMAGES = [os.path.join(DEMO_IMAGES, f) for f in sorted(os.listdir(DEMO_IMAGES)) if f.endswith((".png", ".jpg"))][:2]
WIDE = {"hidden_size": 1152, "num_attention_heads": 16, "intermediate_size": 4304, "num_hidden_layers": 2}


def answers(model, launch):
    status, out, err = program("run", "--model", model, "--tokenizer", DEMO, "--json", "--log-level", "warn", "-n", "4",
                               "--ignore-eos", "-p", "caption en", *IMAGES, launch=launch)
    check("status", status == 0, err)
    return [(r["tokens"], r["logprob"]) for r in map(json.loads, out.splitlines())]


def test_same_answers():
    with tempfile.TemporaryDirectory(dir=TMP) as folder:
        for name in os.listdir(DEMO):
            if not name.endswith(".safetensors"):
                shutil.copy(os.path.join(DEMO, name), folder)
        path = os.path.join(folder, "config.json")
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
        config["vision_config"].update(WIDE)
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        one = answers(f"synthetic:{path}?seed=3", ())
        check("the encoder's work shows", len(one) == 2 and one[0][1] != one[1][1], one)
        check(f"{RANKS} ranks", answers(f"synthetic:{path}?seed=3", LAUNCH) == one)


if __name__ == "__main__":
    sys.exit(main(tests_in(globals())))
