#!/usr/bin/env python3
"""Writes tests/data/golden/gguf_mixes.txt: the types that llama-quantize gives to tensors.

usage: make_mix_golden.py LLAMA_QUANTIZE >gguf_mixes.txt      (needs the gguf package)

A line "model NAME ARCH LAYERS HEADS KV_HEADS EXPERTS TIED WIDTH FFN_WIDTH" describes a model, a line
"MIX OPTIONS o:TYPE e:TYPE k:TYPE*N,TYPE*N..." a file of it: the type of output.weight, of
token_embd.weight, and of a kind of tensor from the first layer to the last. OPTIONS are "-" or, one of
imatrix, pure, output=TYPE, embedding=TYPE, first_v=TYPE (asked for by name: attn_v of the first layer).
A file with an imatrix has a line of its own where it differs.
"""
import itertools
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np

MODELS = {  # arch, layers, heads, kv heads, experts, tied, width, width of the MLP
    "gqa4": ("llama", 16, 16, 4, 0, 0, 256, 512),
    "gqa1_tied": ("llama", 11, 4, 4, 0, 1, 256, 768),
    "llama_70b": ("llama", 80, 64, 32, 0, 0, 256, 512),
    "llama_65b": ("llama", 80, 64, 64, 0, 0, 256, 512),
    "qwen2_72b": ("qwen2", 80, 8, 8, 0, 0, 256, 256),
    "qwen3_odd": ("qwen3", 28, 16, 8, 0, 1, 192, 512),
    "narrow": ("llama", 32, 8, 1, 0, 0, 80, 96),
    "experts": ("llama", 16, 32, 8, 8, 0, 256, 512),
}
MIXES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q2_K_S", "Q3_K_S",
         "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS",
         "TQ1_0", "TQ2_0", "MXFP4_MOE"]
OPTIONS = {"pure": ["--pure"], "output=Q8_0": ["--output-tensor-type", "q8_0"],
           "embedding=Q5_1": ["--token-embedding-type", "q5_1"],
           "first_v=Q8_0": ["--tensor-type", r"^blk\.0\.attn_v=q8_0"]}
KINDS = {"o": "output.weight", "e": "token_embd.weight", "k": "attn_k.weight",
         "O": "attn_output.weight", "q": "attn_q.weight", "v": "attn_v.weight", "d": "ffn_down",
         "g": "ffn_gate", "u": "ffn_up"}
N_ROWS = 4


def tensors_of(model):
    """Name, columns and number of matrices of everything but vectors."""
    _, n_layers, _, _, n_experts, tied, width, ffn_width = MODELS[model]
    yield "token_embd.weight", width, 1
    if not tied:
        yield "output.weight", width, 1
    end, count = ("_exps.weight", n_experts) if n_experts else (".weight", 1)
    for layer in range(n_layers):
        for part in ("attn_k", "attn_output", "attn_q", "attn_v"):
            yield f"blk.{layer}.{part}.weight", width, 1
        for part, columns in (("down", ffn_width), ("gate", width), ("up", width)):
            yield f"blk.{layer}.ffn_{part}{end}", columns, count


def write_model(path, model):
    arch, n_layers, n_heads, n_kv_heads, n_experts, _, width, ffn_width = MODELS[model]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(n_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ffn_width)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(N_ROWS)
    if n_experts:
        writer.add_expert_count(n_experts)
        writer.add_expert_used_count(2)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for name, columns, count in tensors_of(model):
        shape = (N_ROWS, columns) if count == 1 else (count, N_ROWS, columns)
        writer.add_tensor(name, np.ones(shape, np.float16))
    finish(writer)


def write_imatrix(path, tensors):
    """tensors: names, columns and numbers of matrices."""
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["none"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, columns, count in tensors:
        writer.add_tensor(name + ".in_sum2", np.ones((count, columns), np.float32))
        writer.add_tensor(name + ".counts", np.ones((count, 1), np.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types_by_llama(program, path, mix, arguments=()):
    """Name -> type in the order of the file, as llama-quantize would write it."""
    program = pathlib.Path(program).resolve()
    result = subprocess.run([program, "--dry-run", *arguments, path, mix], text=True,
                            capture_output=True,
                            env={**os.environ, "LD_LIBRARY_PATH": str(program.parent)})
    text = result.stdout + result.stderr
    if result.returncode != 0:
        raise RuntimeError(text[-2000:])
    lines = re.findall(r"^\[ *\d+/ *\d+\] +(\S+) +- \[.*?\], type = +(\w+), *(?:.*?)size = (.*)$",
                       text, re.M)
    types = {}
    for name, source, sizes in lines:
        changed = re.search(r"\((\w+)\)", sizes)
        types[name] = (changed.group(1) if changed else source).upper()
    return types


def encoded(types):
    words = []
    for letter, part in KINDS.items():
        of_kind = [t for name, t in types.items() if name == part or
                   (name.startswith("blk.") and name.split(".", 2)[2].startswith(part))]
        runs = [(t, len(list(run))) for t, run in itertools.groupby(of_kind)]
        words.append(f"{letter}:" + ",".join(f"{t}*{n}" for t, n in runs))
    return " ".join(word for word in words if not word.endswith(":"))


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        path, imatrix = f"{scratch}/model.gguf", f"{scratch}/imatrix.gguf"
        cases = {"-": [], "imatrix": ["--imatrix", imatrix], **OPTIONS}
        for model, facts in MODELS.items():
            write_model(path, model)
            write_imatrix(imatrix, tensors_of(model))
            print("model", model, *facts)
            for mix in MIXES:
                plain = None
                for options, arguments in cases.items():
                    if options in OPTIONS and mix not in ("Q4_K_M", "Q8_0", "F16"):
                        continue
                    if model == "narrow" and options in ("output=Q8_0", "embedding=Q5_1"):
                        continue  # llama-quantize does not look whether these fit
                    line = encoded(types_by_llama(program, path, mix, arguments))
                    if options != "imatrix" or line != plain:
                        print(mix, options, line)
                    plain = plain or line


if __name__ == "__main__":
    main()
