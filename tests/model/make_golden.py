#!/usr/bin/env python3
"""Makes tests/data/golden: small random models of every family and feature, with the logits that
transformers computes for them, and the logits of trained models.

    VENV/bin/python tests/model/make_golden.py [name ...]

Needs torch, transformers and safetensors. A folder holds config.json, model.safetensors (F32) and
golden.json: {"cases": [{"ids", "positions", "logits"}]}. Trained models keep golden.json only.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "data" / "golden"
TRAINED = {
    "booklm": ROOT / "examples" / "models" / "booklm",
    "stories260K": ROOT.parent / "shared" / "data" / "models" / "stories260K" / "hf",
}

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
}
FACTORS = [1.0, 1.1, 1.3, 1.7, 2.2, 2.8, 3.5, 4.3]

# name: config.json, in the older spelling (rope_theta, rope_scaling) or that of transformers 5.
MODELS = {
    "llama-gqa": {"model_type": "llama", "rope_theta": 10000.0, "rope_scaling": None},
    "llama-bias": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama-tied": {"model_type": "llama", "tie_word_embeddings": True, "num_key_value_heads": 4},
    "llama-linear": {
        "model_type": "llama", "head_dim": 16, "rope_theta": 1000.0,
        "rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama-dynamic": {
        "model_type": "llama", "head_dim": 16, "max_position_embeddings": 24,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 3.0}},
    "llama-llama3": {
        "model_type": "llama", "head_dim": 16, "rope_theta": 100.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
    "llama-yarn": {
        "model_type": "llama", "head_dim": 16,
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0,
                            "beta_fast": 8.0, "original_max_position_embeddings": 16}},
    "llama-longrope": {
        "model_type": "llama", "head_dim": 16, "original_max_position_embeddings": 16,
        "rope_theta": 100.0,
        "rope_scaling": {"type": "longrope", "short_factor": FACTORS[::-1],
                         "long_factor": FACTORS}},
    "mistral-window": {"model_type": "mistral", "head_dim": 16, "sliding_window": 7},
    "qwen2-bias": {"model_type": "qwen2", "tie_word_embeddings": True, "use_sliding_window": False,
                   "sliding_window": 5, "max_window_layers": 1, "rope_theta": 1000000.0},
    "qwen2-window": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 5,
                     "max_window_layers": 1},
    "qwen3-norm": {
        "model_type": "qwen3", "head_dim": 16, "attention_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
}
LENGTHS = [12, 40]


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def rounded(x):
    return float(f"{x:.7g}")


def cases_of(model, lengths, n_positions, seed):
    rng = torch.Generator().manual_seed(seed)
    cases = []
    for length in lengths:
        ids = torch.randint(3, model.config.vocab_size, (1, length), generator=rng)
        positions = sorted({length - 1, *range(0, length, -(-length // n_positions))})
        with torch.no_grad():
            logits = model(ids).logits[0].float()
        cases.append({
            "ids": ids[0].tolist(),
            "positions": positions,
            "logits": [[rounded(x) for x in logits[p].tolist()] for p in positions],
        })
    return {"cases": cases}


def randomise(model, seed):
    """Weights large enough that attention, biases and norms all show in the logits."""
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=rng)
        if "norm" in name:
            p.data = 1 + 0.2 * noise
        elif name.endswith("bias"):
            p.data = 0.3 * noise
        else:
            p.data = noise * (2.0 / p.shape[1]) ** 0.5


def load(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def make_random(out, name, keys, seed):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", SIZES | {"bos_token_id": 1, "eos_token_id": 2} | keys)
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = model.float()
    randomise(model, seed)
    original = (folder / "config.json").read_text()
    model.save_pretrained(folder)
    (folder / "config.json").write_text(original)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_json(folder / "golden.json", cases_of(load(folder), LENGTHS, 4, seed))


def make_trained(out, name, source, seed):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "golden.json", cases_of(load(source), [96], 2, seed))


def main():
    wanted = sys.argv[1:] or [*MODELS, *TRAINED]
    for seed, (name, keys) in enumerate(MODELS.items(), 1):
        if name in wanted:
            make_random(OUT, name, keys, seed)
    for name, source in TRAINED.items():
        if name in wanted:
            make_trained(OUT, name, source, 77)


if __name__ == "__main__":
    main()
