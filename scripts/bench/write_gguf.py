#!/usr/bin/env python3
"""A Gemma 2 decoder in llama.cpp's format, of a preset's dimensions:

    write_gguf.py --preset 3b-224 [--layers 4] --type BF16|Q8_0|Q4_0 --out FILE.gguf

Needs numpy and gguf (PyPI). Every matrix is of that type, the embedding as well (llama.cpp reads it a second time for the logits,
as paligrid does). A matrix begins with the rows that `--model synthetic:PRESET` has and repeats them: a benchmark's speed does not
depend on values, and 27B are written in minutes. There is no vocabulary, only its size. A tensor at a time is in memory.
"""
import argparse
import os
import sys

import gguf
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "oracle"))
import make_model  # noqa: E402

N_VOCAB, IMAGE_TOKEN = 257216, 257152
OWN_VALUES = 1 << 20  # of a matrix, about, before they repeat
NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(hub):
    """None for what is not of the decoder."""
    if not hub.startswith("language_model.model."):
        return None
    name = hub.removeprefix("language_model.model.").removesuffix(".weight")
    if name in ("embed_tokens", "norm"):
        return {"embed_tokens": "token_embd.weight", "norm": "output_norm.weight"}[name]
    _, layer, part = name.split(".", 2)
    return f"blk.{layer}.{NAMES[part]}.weight"


def bits(hub, shape, config):
    """The tensor as bfloat16 bits."""
    raw = b"".join(make_model.values(hub, shape, config, 1, IMAGE_TOKEN - 1152, True))
    return np.frombuffer(raw, np.uint16).reshape(shape)


def as_f32(u16):
    return (u16.astype(np.uint32) << 16).view(np.float32)


def stored(hub, shape, config, kind):
    """The array that is written."""
    if len(shape) == 1:
        return as_f32(bits(hub, shape, config)) + np.float32(1)  # llama.cpp multiplies by the weight, Gemma by 1 + w
    u16 = bits(hub, (min(shape[0], OWN_VALUES // shape[1]), shape[1]), config)
    rows = u16.view(np.uint8) if kind == gguf.GGMLQuantizationType.BF16 else gguf.quants.quantize(as_f32(u16), kind)
    return np.resize(rows, (shape[0], rows.shape[1]))


def bytes_of(shape, kind):
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block * size


def describe(writer, text, kind):
    writer.add_vocab_size(N_VOCAB)
    writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(8192)
    writer.add_embedding_length(text["hidden_size"])
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_key_length(text["head_dim"])
    writer.add_value_length(text["head_dim"])
    writer.add_attn_logit_softcapping(50.0)
    writer.add_final_logit_softcapping(30.0)
    writer.add_sliding_window(text["sliding_window"])
    writer.add_file_type({"BF16": gguf.LlamaFileType.MOSTLY_BF16, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}[kind])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--preset", choices=make_model.PRESETS, required=True)
    ap.add_argument("--layers", type=int)
    ap.add_argument("--type", choices=("BF16", "Q8_0", "Q4_0"), required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    config = {**make_model.PRESETS[args.preset]}
    config["text"] = {**config["text"]}
    config["text"]["num_hidden_layers"] = args.layers or config["text"]["num_hidden_layers"]
    kind = gguf.GGMLQuantizationType[args.type]
    tensors = [(gguf_name(hub), hub, shape) for hub, shape in make_model.tensors(config, N_VOCAB) if gguf_name(hub)]
    writer = gguf.GGUFWriter(args.out + ".part", "gemma2")
    describe(writer, config["text"], args.type)
    for name, _, shape in tensors:
        held = gguf.GGMLQuantizationType.F32 if len(shape) == 1 else kind
        writer.add_tensor_info(name, shape, np.dtype(np.float32), bytes_of(shape, held), held)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, hub, shape in tensors:
        writer.write_tensor_data(stored(hub, shape, config, kind))
    writer.close()
    os.replace(args.out + ".part", args.out)


if __name__ == "__main__":
    main()
