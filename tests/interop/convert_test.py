#!/usr/bin/env python3
"""GGUF files made from Hugging Face folders beside llama.cpp's converter: keys and tensors of F32
files are equal, but for the list below. --peers only: RP_CONVERT_HF_TO_GGUF names
convert_hf_to_gguf.py of a llama.cpp tree.

usage: convert_test.py --build DIR --data DIR [--peers]
"""
import os
import pathlib
import subprocess
import sys
import tempfile

PEER = os.environ.get("RP_CONVERT_HF_TO_GGUF")
if "--peers" not in sys.argv or not PEER:
    print("skipped: needs --peers and RP_CONVERT_HF_TO_GGUF")
    sys.exit(77)

import gguf
import numpy as np

import gguf_test
from program import parser

# Ours on purpose: merges as scores and <unk> as an unknown token, where the converter writes flat
# scores with which llama.cpp tokenises otherwise; keys that say what a loader would assume.
OTHER_VALUES = {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}
ONLY_OURS = ("tokenizer.ggml.add_", ".rope.dimension_count", ".vocab_size")
ONLY_THEIRS = {"tokenizer.ggml.add_sep_token", "general.basename", "general.finetune",
               "general.version"}


def fields_of(path):
    return {k: (v.contents(), v.types) for k, v in gguf.GGUFReader(path).fields.items()
            if not k.startswith("GGUF.")}


def check_keys(name, theirs, ours):
    for key in sorted(theirs.keys() | ours.keys()):
        if key not in ours:
            assert key in ONLY_THEIRS, f"{name}: {key} is missing, the converter has {theirs[key]}"
        elif key not in theirs:
            assert any(part in key for part in ONLY_OURS), f"{name}: {key}, not the converter's"
        elif key in OTHER_VALUES and theirs["tokenizer.ggml.model"][0] == "llama":
            assert len(theirs[key][0]) == len(ours[key][0]), f"{name}: {key}"
        else:
            assert theirs[key] == ours[key], f"{name}: {key}: {ours[key]}, want {theirs[key]}"[:300]


def check_model(options, folder, model):
    theirs, out = folder / "theirs.gguf", folder / f"{model.name}-out"
    subprocess.run([sys.executable, PEER, model, "--outtype", "f32", "--outfile", theirs], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={**os.environ, "PYTHONPATH": str(pathlib.Path(PEER).parent / "gguf-py")})
    job = folder / f"{model.name}.yaml"
    job.write_text(f"model: {model}\noutput: {{dir: {out}, formats: [{{gguf: F32}}]}}\n")
    subprocess.run([options.build / "jobs" / "rankpress", "run", "--quiet", job], check=True,
                   stdout=subprocess.DEVNULL)
    ours = out / "model-F32.gguf"
    check_keys(model.name, fields_of(theirs), fields_of(ours))
    want = {t.name: t for t in gguf.GGUFReader(theirs).tensors}
    found = {t.name: t for t in gguf.GGUFReader(ours).tensors}
    assert want.keys() == found.keys(), f"{model.name}: {want.keys() ^ found.keys()}"
    for name, tensor in want.items():
        assert tensor.tensor_type == found[name].tensor_type, f"{model.name}: {name}"
        assert np.array_equal(tensor.data, found[name].data), f"{model.name}: {name}: other values"


def main():
    options = parser().parse_args()
    done = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        source = folder / "tokenizer"
        source.mkdir()
        byte_level = dict(gguf_test.byte_level_tokenizers(options.data)).get("gpt-2")
        if byte_level:
            byte_level.save(str(source / "tokenizer.json"))
            (source / "tokenizer_config.json").write_text(
                '{"tokenizer_class": "GPT2TokenizerFast", "eos_token": "<|endoftext|>"}')
        for family in ("llama", "mistral", "qwen3"):  # qwen2 wants Qwen's own vocabulary
            if family == "qwen3" and not byte_level:
                continue
            other = ("--tokenizer", source, "--set=vocab_size=50304") if family == "qwen3" else ()
            model = gguf_test.make_family(folder, family, *other)
            check_model(options, folder, model)
            done.append(family)
        check_model(options, folder, gguf_test.BOOKLM)
    print(f"equal to convert_hf_to_gguf.py: booklm, {', '.join(done)}")


main()
