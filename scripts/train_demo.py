#!/usr/bin/env python3
"""Train the bundled demo model from nothing and put it into demo/.

A PaliGemma 2 of 2.8 million parameters learns to caption, to answer questions, to read signs and
to draw boxes, in English and Italian, on pictures of coloured shapes that are made here as well.
No data is read from outside. On two CPU cores it takes about an hour; schedules count
steps, not seconds, so a slower machine gives the same run later.

    pip install torch==2.13.0 transformers sentencepiece tokenizers numpy pillow safetensors
    python scripts/train_demo.py

Stages, each redone alone with --stages:
    cache      render the training and held-out scenes           WORK/cache
    train      vision, packed and full phase (demo/train.py)     WORK/run
    export     model folder, pictures, prompts, and what
               transformers answers to them                      OUT
    evaluate   accuracy on held-out scenes                       WORK/run/results.json
"""

import argparse
import json
from pathlib import Path

STAGES = ("cache", "train", "export", "evaluate")
ROOT = Path(__file__).resolve().parent.parent


def parse():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build" / "train_demo",
        help="scratch folder, 5 GB (%(default)s)",
    )
    ap.add_argument(
        "--out",
        type=Path,
        default=ROOT / "demo",
        help="where model/, images/ and the tables go (%(default)s)",
    )
    ap.add_argument(
        "--stages", default=",".join(STAGES), help="which to run, in this order (%(default)s)"
    )
    ap.add_argument(
        "--scenes", type=int, default=96000, help="training scenes to render (%(default)s)"
    )
    ap.add_argument(
        "--held", type=int, default=4000, help="held-out scenes to render (%(default)s)"
    )
    ap.add_argument(
        "--steps",
        default="4000,2656,2500",
        help="steps of the vision, packed and full phase (%(default)s)",
    )
    ap.add_argument("--batch", type=int, default=32, help="pictures per step (%(default)s)")
    ap.add_argument(
        "--seed", type=int, default=1, help="of the weights and the batches (%(default)s)"
    )
    ap.add_argument(
        "--resume",
        action="store_true",
        help="go on from WORK/run/state.pt instead of starting over",
    )
    ap.add_argument(
        "--n", type=int, default=500, help="held-out scenes to score per task (%(default)s)"
    )
    ap.add_argument("--show", type=int, default=0, help="answers to print per task (%(default)s)")
    a = ap.parse_args()
    a.stages = a.stages.split(",")
    a.steps = tuple(int(s) for s in a.steps.split(","))
    if set(a.stages) - set(STAGES):
        ap.error(f"--stages takes {', '.join(STAGES)}")
    if len(a.steps) != 3:
        ap.error("--steps takes three numbers")
    return a


def main():
    a = parse()
    # Only now: --help must not wait for torch.
    from demo import evaluate, export, samples, scenes, tokenizer, train

    cache, run = a.work / "cache", a.work / "run"
    if "cache" in a.stages:
        scenes.write_cache(cache, a.scenes, a.held)
    if "train" in a.stages:
        tokenizer.write_tokenizer(a.work / "tokenizer")
        train.train(run, cache, a.work / "tokenizer", a.steps, a.batch, a.seed, a.resume)
    if "export" in a.stages:
        export.export(run / "model.pt", a.work / "tokenizer", a.out / "model")
        samples.write_samples(a.out)
        samples.write_expected(a.out)
    if "evaluate" in a.stages:
        results = evaluate.evaluate(a.out / "model", cache, a.n, a.show)
        (run / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
