#!/usr/bin/env python3
"""What a way of holding weights does to the bundled model: its accuracy on held-out scenes, by task.

    scripts/demo_quality.py                              # as stored, int8 and int4, 100 scenes a task
    scripts/demo_quality.py --weights int4 -n 500 -- --int4-group 64
    scripts/demo_quality.py --weights auto,int8,int8/int8   # the last with int8 activations, too

Draws scenes that training never saw, asks `paligrid run` about them with the weights held in each
form, and prints a table: the share of right answers for each task, mAP at IoU 0.5 for detections,
and how many answers are word for word those of the first form. What follows -- goes to paligrid.
Needs NumPy and Pillow.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEED = 4242
TASK = {"caption": "sets", "caption_sign": "sets", "detect": "mAP50"}  # the figure that says most; else "exact"


def draw(folder, n):
    """Scenes as PNG in folder; returns them. Four times n, as some tasks fit only some scenes."""
    import random

    from demo import language, scenes

    rng = random.Random(SEED)
    held = [scenes.make_scene(rng, None, language.WORDS_HELD) for _ in range(4 * n)]
    for i, scene in enumerate(held):
        scenes.render(scene, scenes.SIZE_PX).save(os.path.join(folder, f"{i}.png"))
    return held


def ask(model, form, folder, questions, more):
    """{kind: [(text, scores)]} in the order of the questions."""
    rows = [f"{i}.png\t{prompt}\n" for asked in questions.values() for i, (_, prompt, _) in asked]
    path = os.path.join(folder, "list.tsv")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(rows)
    weights, _, activations = form.partition("/")
    more = [*(["--activations", activations] if activations else []), *more]
    command = [os.environ.get("PALIGRID", os.path.join(ROOT, "paligrid")), "run", "--model", model, "--weights", weights, "--list",
               path, "--json", "--log-level", "warn", *more]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()
    if len(out) != len(rows):
        raise SystemExit(f"{len(out)} answers to {len(rows)} questions")
    answers = iter(json.loads(line) for line in out)
    result = {}
    for kind, asked in questions.items():
        result[kind] = []
        for _ in asked:
            a = next(answers)
            # One score for all boxes of a picture: the mean log-probability of the answer's tokens.
            mean = a["logprob"] / max(1, len(a["tokens"]))
            result[kind].append((a["text"], [mean] * (1 + a["text"].count(";"))))
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default=os.path.join(ROOT, "demo", "model"), help="the demo model (%(default)s)")
    p.add_argument("--weights", default="auto,int8,int4", help="forms, or form/activations; the first is what others are compared with (%(default)s)")
    p.add_argument("-n", type=int, default=100, help="scenes a task (%(default)s)")
    p.add_argument("--min-agreement", type=float, default=0, help="exit status 1 when a form agrees on less")
    p.add_argument("more", nargs="*", help="options of paligrid, after --")
    o = p.parse_args()
    from demo import language, score

    forms = o.weights.split(",")
    with tempfile.TemporaryDirectory() as folder:
        held = draw(folder, o.n)
        questions = {k: score.choose(held, k, o.n) for k in (*language.KINDS, "caption_sign")}
        answers = {form: ask(o.model, form, folder, questions, o.more) for form in forms}
    print(f"{'task':14} {'n':>5} " + " ".join(f"{f:>8}" for f in forms))
    for kind, asked in questions.items():
        figure = TASK.get(kind, "exact")
        shares = [score.score(kind.split("_")[0], [q for _, q in asked], answers[f][kind])[figure] for f in forms]
        print(f"{kind:14} {len(asked):5} " + " ".join(f"{100 * s:7.1f}%" for s in shares) + f"   {figure}")
    total = sum(map(len, questions.values()))
    agree = [sum(a[0] == b[0] for k in questions for a, b in zip(answers[forms[0]][k], answers[f][k])) / total for f in forms]
    print(f"{'same words':14} {total:5} " + " ".join(f"{100 * a:7.1f}%" for a in agree))
    return min(agree) < o.min_agreement


if __name__ == "__main__":
    sys.exit(main())
