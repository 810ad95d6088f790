"""gemma.cpp as a peer: its own program on its own 8-bit PaliGemma 2 file, which has to be there (it cannot be made from a formula).

Each turn is a process. What it says on stderr is read: milliseconds of the picture, of the prompt and of the answer; an answer may
end early, so tokens are counted by what it says. It chooses the tiles of its matrix products while it computes, so the same prompt is
asked several times and the last answer counts. The picture, of noise, is encoded once in a process: what it says of that is of a first call.
"""
import os
import random
import re
import subprocess

from .worker import Missing

SAID = {"vision": r"Image token generation took: (\d+) ms()", "prefill_text": r"Prefill: (\d+) ms for (\d+) prompt tokens",
        "decode": r"Generate: (\d+) ms for (\d+) tokens"}
ASKED = 2  # prompts of a turn
UNSAID = {"prefill_text": 1}  # it prefills the prompt's last token as well, which it leaves out where it counts


def rates(text):
    """{phase: a second} out of its messages: the last of each kind."""
    out = {}
    for phase, pattern in SAID.items():
        found = re.findall(pattern, text)
        if found and int(found[-1][0]) > 0:
            ms, count = found[-1]
            out[phase] = 1000 * (int(count or 1) + UNSAID.get(phase, 0)) / int(ms)
    return out


class GemmaCpp:
    name = "gemma.cpp 8-bit"

    def __init__(self, preset, scratch, args):
        if not args.gemma_cpp or not args.gemma_weights:
            raise Missing("--gemma-cpp PROGRAM and --gemma-weights FILE.sbs are not given")
        for path in (args.gemma_cpp, args.gemma_weights):
            if not os.path.exists(path):
                raise Missing(f"no file {path}")
        px = int(preset.split("-")[1])
        picture = scratch.make(f"noise-{px}.ppm")
        with open(picture, "wb") as f:
            f.write(f"P6 {px} {px} 255\n".encode() + random.Random(1).randbytes(3 * px * px))
        self.argv = [args.gemma_cpp, "--weights", args.gemma_weights, "--image_file", picture, "--max_generated_tokens", str(args.new_tokens),
                     "--num_threads", str(args.threads), "--verbosity", "1"]
        self.argv += ["--tokenizer", args.gemma_tokenizer] if args.gemma_tokenizer else []
        prompt = "caption en" + " the" * (args.text_tokens - 4)  # it adds <bos> and a line end
        self.prompts = f"{prompt}\n" * ASKED + "%q\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def measure(self, batch):
        if batch != 1:
            raise Missing("its program answers one prompt at a time")
        done = subprocess.run(self.argv, input=self.prompts, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        out = rates(done.stderr)
        if done.returncode != 0 or not out:
            raise Missing(f"its program ended with status {done.returncode}: {(done.stderr.splitlines() or [''])[-1][:200]}")
        return out
