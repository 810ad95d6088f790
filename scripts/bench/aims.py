"""How fast paligrid means to be: ratios to peers (theirs is 1), and shares of what the machine can do."""

# (peer, phase, batch): {preset's beginning: ">= ratio"}; the longest beginning that fits counts
PEERS = {
    ("transformers", "prefill", 1): {"": ">= 1.4", "3b-896": ">= 2"},
    ("transformers", "decode", 1): {"": ">= 1.7"},
    ("transformers", "decode", 4): {"": ">= 2.2"},
    ("compiled", "prefill", 1): {"": ">= 1.2"},
    ("compiled", "decode", 1): {"": ">= 1"},
    ("llama-bf16", "prefill_text", 1): {"": ">= 1.75"},
    ("llama-bf16", "decode", 1): {"": ">= 1"},
    ("llama-bf16", "decode", 4): {"": ">= 1.5"},
    ("llama-q8_0", "decode", 1): {"": ">= 1.2"},
    ("llama-q8_0", "decode", 4): {"": ">= 1.5"},
    ("llama-q4_0", "prefill_text", 1): {"": ">= 1.4", "28b": ">= 1.5"},
    ("llama-q4_0", "decode", 1): {"": ">= 1.1"},
    ("llama-q4_0", "decode", 4): {"": ">= 1.5"},
    ("gemma.cpp", "vision", 1): {"3b-224": ">= 2.1", "3b-448": ">= 4.5"},
    ("gemma.cpp", "prefill_text", 1): {"": ">= 1.55"},
    ("gemma.cpp", "decode", 1): {"": ">= 1.4"},
}

PREFILL_SHARE = {224: ">= 0.85", 448: ">= 0.85", 896: ">= 0.8"}  # of the multiply-add rate
DECODE_SHARE = {"bf16": ">= 0.9", "int8": ">= 0.9", "int4": ">= 0.8"}  # of the read bandwidth
INT8_ACTIVATIONS = ">= 1.7"  # tokens/s of the decoder's prefill over those in bf16
BATCH_8 = ">= 6"  # tokens/s of eight sequences over those of one
RANKS = ">= 0.95"  # 2 ranks x 1 thread over 1 x 2
SUMS = "<= 0.02"  # of a phase, beyond sums in f32
START_MS = "<= 300"  # from exec to the first vision layer, files in the page cache
COPIES = "<= 1.05"  # resident bytes of two ranks over those of the weights
MEMORY = "<= 1.05"  # peak over plan
MEMORY_28B = f"<= {20 * 2**30 / 1e9:.3f}"  # GB of all ranks


def of_peer(peer, phase, batch, preset):
    """"" where nothing is aimed at."""
    fitting = [(len(k), v) for k, v in PEERS.get((peer, phase, batch), {}).items() if preset.startswith(k)]
    return max(fitting)[1] if fitting else ""
