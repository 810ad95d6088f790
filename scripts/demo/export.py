"""Write a trained model as a Hugging Face PaliGemma 2 folder, with the published files' names.

One bf16 model.safetensors, tensor names as in the 2024 repositories, tied output embedding, the
training's helper heads left out.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import model as m
from .tokenizer import BOS, EOS, IMAGE, ROWS

N_IMAGE = m.GRID * m.GRID


def configs():
    text = {
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        **m.TEXT,
        "vocab_size": ROWS,
        "attn_logit_softcapping": m.ATTENTION_CAP,
        "final_logit_softcapping": m.LOGIT_CAP,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": m.EPS,
        "rope_theta": m.ROPE_THETA,
        "sliding_window": 4096,
        "max_position_embeddings": 8192,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "num_image_tokens": N_IMAGE,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": 0,
    }
    vision = {
        "model_type": "siglip_vision_model",
        **m.VISION,
        "image_size": m.IMAGE_PX,
        "patch_size": m.PATCH_PX,
        "num_channels": 3,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": m.EPS,
        "attention_dropout": 0.0,
        "num_image_tokens": N_IMAGE,
        "num_positions": N_IMAGE,
        "projection_dim": m.TEXT["hidden_size"],
        "torch_dtype": "bfloat16",
        "vision_use_head": False,
    }
    top = {
        "model_type": "paligemma",
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": 0,
        "image_token_index": IMAGE,
        "hidden_size": m.TEXT["hidden_size"],
        "projection_dim": m.TEXT["hidden_size"],
        "num_hidden_layers": m.TEXT["num_hidden_layers"],
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.47.0",
        "text_config": dict(sorted(text.items())),
        "vision_config": dict(sorted(vision.items())),
    }
    generation = {
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": 0,
        "transformers_version": "4.47.0",
    }
    processor = {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "image_processor_type": "SiglipImageProcessor",
        "image_seq_length": N_IMAGE,
        "processor_class": "PaliGemmaProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": m.IMAGE_PX, "width": m.IMAGE_PX},
    }
    return {
        "config.json": dict(sorted(top.items())),
        "generation_config.json": generation,
        "preprocessor_config.json": processor,
    }


def export(weights, tokenizer_dir, folder):
    """weights: the model.pt of a run; tokenizer_dir: what it was trained with; folder: made if
    missing, its files overwritten."""
    folder = Path(folder)
    shutil.copytree(tokenizer_dir, folder, dirs_exist_ok=True)
    for name, value in configs().items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    state = torch.load(weights, weights_only=True)
    tensors = {name: t.to(torch.bfloat16).contiguous() for name, t in sorted(state.items())}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
