#!/usr/bin/env python3
# RANKS: 1 3
"""The bundled model on its own pictures: the answers that transformers gives, word for word.

demo/expected.tsv holds greedy answers of transformers (float32, eager) from the exported folder, made
by scripts/demo. The plain loops give the same text. The fast table rounds activations to bf16, so a
location may be a few of its 1024 steps aside (the model was trained with soft targets of +-5 steps);
everything else is the same, too.
"""
import json
import os
import re
import subprocess

import oracle

DEMO = os.path.join(oracle.ROOT, "demo")


def table(name):
    with open(os.path.join(DEMO, name), encoding="utf-8") as f:
        return [line.rstrip("\n").split("\t") for line in f]


def agree(want, got, steps):
    """The same text, but for <loc> values that may be `steps` apart."""
    loc = re.compile("<loc([0-9]{4})>")
    a, b = loc.findall(want), loc.findall(got)
    near = all(abs(int(x) - int(y)) <= steps for x, y in zip(a, b))
    return len(a) == len(b) and near and loc.sub("<loc>", want) == loc.sub("<loc>", got)


expected = table("expected.tsv")
asked = [row[:2] for row in table("prompts.tsv")]
if [row[:2] for row in expected] != asked:
    raise SystemExit("demo/expected.tsv and demo/prompts.tsv are not about the same prompts")
ranks, failed = int(os.environ.get("RANKS", "1")), 0
for device, steps in (("ref", 0), ("auto", 5)):
    argv = [os.path.join(oracle.BUILD, "paligrid"), "run", "--model", os.path.join(DEMO, "model"), "--list",
            os.path.join(DEMO, "prompts.tsv"), "--images", os.path.join(DEMO, "images"), "--json", "--embed-scale", "f32",
            "--device", device, "--log-level", "warn"]
    out = subprocess.run(oracle.launch(ranks, argv), stdout=subprocess.PIPE, timeout=200, check=True).stdout.decode()
    rows = [json.loads(line) for line in out.splitlines()]
    wrong = [(e, r["text"]) for e, r in zip(expected, rows) if not agree(e[2], r["text"], steps)]
    failed += bool(wrong) or len(rows) != len(expected)
    print(f"{device} on {ranks} rank(s): {len(rows)} answers, {len(wrong)} differ {wrong[:3]}")
raise SystemExit(1 if failed else 0)
