"""Expected results of beam search, from transformers' generate() on a toy model.

    python make_beam.py --out beam.json        # transformers 5.23.0, torch 2.13 (CPU)

The toy model has no weights. The logit of token j, when t tokens have been generated and the last
of them (the seed itself while t = 0) is i, is
    (mix((seed * 64 + t) * 2^20 + i * 1024 + j) mod 2^20) / 2^17,
plus eos_bias where j is an EOS id; mix is splitmix64's finaliser (rng_splitmix64 in the C code).
It depends on t so that no two sequences have the same multiset of steps: sums never tie by
construction, and the results do not hang on the order in which torch.topk lists ties.
Every case: num_return_sequences = num_beams, early_stopping False, max_new_tokens = max_new.
Written: one JSON object with "cases": each with its settings, "steps" (how often the model was
called), and "results" (tokens with the EOS, score), best first.
"""
import argparse
import itertools
import json

import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

MASK = (1 << 64) - 1


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


class ToyConfig(PretrainedConfig):
    model_type = "toy"


class Toy(PreTrainedModel, GenerationMixin):
    config_class = ToyConfig

    def __init__(self, config, case):
        super().__init__(config)
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.case, self.calls = case, 0

    def forward(self, input_ids=None, attention_mask=None, **_):
        self.calls += 1
        t = input_ids.shape[1] - 1
        c = self.case
        rows = []
        for last in input_ids[:, -1].tolist():
            i = c["seed"] if t == 0 else last
            row = [(mix((c["seed"] * 64 + t) * 2 ** 20 + i * 1024 + j) % 2 ** 20) / 2 ** 17 for j in range(c["vocab"])]
            for e in c["eos"]:
                row[e] += c["eos_bias"]
            rows.append(row)
        return CausalLMOutput(logits=torch.tensor(rows, dtype=torch.float32)[:, None, :])

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}


def run(case):
    model = Toy(ToyConfig(vocab_size=case["vocab"]), case)
    generation = GenerationConfig(
        num_beams=case["beams"], num_return_sequences=case["beams"], early_stopping=False, do_sample=False, use_cache=False,
        max_new_tokens=case["max_new"], length_penalty=case["length_penalty"], eos_token_id=case["eos"] or None, pad_token_id=case["vocab"],
        return_dict_in_generate=True, output_scores=True)
    out = model.generate(torch.zeros((1, 1), dtype=torch.int64), generation_config=generation)
    results = []
    for tokens, score in zip(out.sequences[:, 1:].tolist(), out.sequences_scores.tolist()):
        results.append({"tokens": list(itertools.takewhile(lambda x: x != case["vocab"], tokens)), "score": score})
    return dict(case, steps=model.calls, results=results)


def cases():
    for seed in range(6):
        for beams, eos, penalty in ((2, [1], 1.0), (3, [1], 1.0), (3, [1], 0.0), (4, [1, 5], 0.6), (5, [0, 3, 7], 2.0), (8, [1], 1.0),
                                    (3, [], 1.0), (4, [2], -0.5)):
            for bias in (0.0, 2.5, 5.0):
                yield {"seed": seed, "vocab": 48, "beams": beams, "max_new": 4 + 5 * (seed % 3), "eos": eos, "length_penalty": penalty,
                       "eos_bias": bias}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    done = [run(c) for c in cases()]
    with open(a.out, "w") as f:
        f.write('{"made_with": "transformers %s", "cases": [\n' % transformers.__version__)
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in done))
        f.write("\n]}\n")
    ended = sum(len(r["tokens"]) < c["max_new"] for c in done for r in c["results"])
    print(f"{len(done)} cases, {sum(len(c['results']) for c in done)} results, {ended} shorter than max_new_tokens, "
          f"{sum(c['steps'] < c['max_new'] for c in done)} searches stopped early")


if __name__ == "__main__":
    main()
