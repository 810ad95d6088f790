"""Training in three phases, counted in steps so that a run can be repeated:
    vision   the vision tower alone, on the helper loss (helper.py)
    packed   the whole model, many prompts per picture (model.py says what is packed)
    full     the whole model under PaliGemma's own mask
The helper loss stays on throughout. The rate is held during the vision phase and then falls like
a cosine.

Each of WORKERS processes runs one thread on its share of the batch: at these sizes that keeps two
cores busier than two threads do. Their number is part of the recipe, it changes the batches.
"""

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import distributed, multiprocessing
from torch.nn import functional as F

from . import data, language
from .helper import Helper, SoftLoc
from .model import Model, TextLayer, VisionLayer
from .optimizer import Optimizer
from .tokenizer import LOC0

PHASES = ("vision", "packed", "full")
WORKERS = 2
WARMUP_STEPS, LAST_RATE = 30, 0.01
AUX_WEIGHT = 0.3
LOG_EVERY, SAVE_EVERY_S = 50, 180


def answer_loss(model, states, batch, soft_loc):
    """Weighted mean over answer tokens, and the share of prompts whose words are all right under
    teacher forcing (boxes: within 3 % of the picture on all sides), by kind."""
    label, loc = batch["label"], data.is_loc(batch["label"])
    logits = model.logits(states.flatten(0, -2)[batch["at"]])
    each = F.cross_entropy(logits, label, reduction="none")
    if loc.any():
        # The bell spreads over <loc> only; what leaks to other tokens still costs.
        log_all = torch.logsumexp(logits[loc], -1)
        log_loc = torch.logsumexp(logits[loc][:, LOC0 : LOC0 + 1024], -1)
        bell = soft_loc(logits[loc][:, LOC0 : LOC0 + 1024], label[loc] - LOC0)
        each = each.masked_scatter(loc, bell + log_all - log_loc)
    loss = (each * batch["weight"]).sum() / batch["weight"].sum()
    with torch.no_grad():
        off = (logits.argmax(-1) - label).abs()
        right = torch.where(loc, off <= 30, off == 0).numpy()
    prompts = np.ones(batch["prompt"][-1] + 1, bool)
    np.logical_and.at(prompts, batch["prompt"].numpy(), right)
    kinds = np.zeros(len(prompts), int)
    kinds[batch["prompt"].numpy()] = batch["kind"].numpy()
    return loss, {
        k: prompts[kinds == i].mean() for i, k in enumerate(language.KINDS) if (kinds == i).any()
    }


def rate_factor(step, steps):
    """1 through the vision phase (after a short warm-up), then a cosine down to LAST_RATE."""
    done = max(0, step - steps[0]) / max(1, sum(steps) - steps[0])
    return min(1, (step + 1) / WARMUP_STEPS) * (
        LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1, done)))
    )


def tensors(batch):
    return {k: tensors(v) if isinstance(v, dict) else torch.from_numpy(v) for k, v in batch.items()}


def train_step(model, helper, batch, soft_loc):
    """Back-propagates one batch; returns what to log."""
    with torch.autocast("cpu", torch.bfloat16):
        features = model.see(batch["pictures"])
        helper_loss, right = helper(features, batch["patches"], model.embedding, soft_loc)
        if "ids" not in batch:
            helper_loss.backward()
            return {"aux": helper_loss.item(), **{f"patch_{k}": v for k, v in right.items()}}
        states = model.decode(features, batch["ids"], batch["is_prompt"])
        loss, kinds = answer_loss(model, states, batch, soft_loc)
    (loss + AUX_WEIGHT * helper_loss).backward()
    return {
        "loss": loss.item(),
        "aux": helper_loss.item(),
        **kinds,
        **{f"patch_{k}": v for k, v in right.items()},
    }


class Log:
    """Means over LOG_EVERY steps of worker 0, one JSON line each."""

    def __init__(self, path):
        self.path, self.window, self.began = path, [], time.time()

    def add(self, step, phase, values):
        self.window.append(values)
        if step % LOG_EVERY:
            return
        line = {"step": step, "phase": phase, "seconds": round(time.time() - self.began)}
        for name in sorted({k for w in self.window for k in w}):
            mean = np.nanmean([w.get(name, np.nan) for w in self.window])
            line[name] = round(float(mean), 3)
        with open(self.path, "a") as f:
            print(json.dumps(line), file=f)
        self.window = []


class Run:
    """What is trained, and its place on disk: model.pt has the weights, state.pt all to resume."""

    def __init__(self, folder, seed):
        self.folder = Path(folder)
        self.model, self.helper = Model(seed), Helper()
        self.optimizer = Optimizer(self.model, self.helper)
        self.step, self.saved = 0, time.time()

    def save(self):
        state = {
            "model": self.model.state_dict(),
            "helper": self.helper.state_dict(),
            "optimizer": self.optimizer.state(),
            "step": self.step,
        }
        for name, value in (("model.pt", state["model"]), ("state.pt", state)):
            torch.save(value, self.folder / f"{name}.new")
            (self.folder / f"{name}.new").rename(self.folder / name)
        self.saved = time.time()

    def load(self):
        state = torch.load(self.folder / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.helper.load_state_dict(state["helper"])
        self.optimizer.load(state["optimizer"])
        self.step = state["step"]


def worker(rank, folder, cache, tokenizer_dir, recipe):
    steps, batch, seed, resume = recipe
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    meeting_point = f"file://{Path(folder).resolve()}/meeting_point"
    distributed.init_process_group("gloo", meeting_point, rank=rank, world_size=WORKERS)
    run, soft_loc = Run(folder, seed), SoftLoc()
    if resume:
        run.load()
    torch._dynamo.config.recompile_limit = 64  # one per text length and phase
    for layer in (TextLayer, VisionLayer):
        layer.forward = torch.compile(layer.forward, dynamic=False)
    log = Log(run.folder / "log.jsonl")
    for index, phase in enumerate(PHASES):
        end = sum(steps[: index + 1])
        if run.step >= end:
            continue
        batch_seed = f"{seed} {phase} {run.step} {rank}"
        source = (phase, cache, tokenizer_dir, batch // WORKERS, batch_seed)
        with data.Batches(*source) as batches:
            while run.step < end:
                values = train_step(run.model, run.helper, tensors(batches.get()), soft_loc)
                run.optimizer.step(rate_factor(run.step, steps))
                run.step += 1
                if rank == 0:
                    log.add(run.step, phase, values)
                    if run.step == end or time.time() - run.saved > SAVE_EVERY_S:
                        run.save()
    distributed.destroy_process_group()


def train(folder, cache, tokenizer_dir, steps, batch=32, seed=1, resume=False):
    """Writes model.pt (weights only), state.pt and log.jsonl into the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meeting_point").unlink(missing_ok=True)
    recipe = (steps, batch, seed, resume)
    multiprocessing.spawn(worker, (folder, cache, tokenizer_dir, recipe), nprocs=WORKERS)
