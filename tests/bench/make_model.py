#!/usr/bin/env python3
"""Writes a Hugging Face model folder with random weights of a given shape, for tests and benchmarks.

usage: make_model.py OUT [--like NAME] [--bytes SIZE] [--family NAME] [--dtype NAME] [--set KEY=N]...
                         [--tokenizer FOLDER] [--shard-bytes SIZE] [--seed N] [--jobs N] [--pool]

  --like         tiny (default), smollm2-135m, tinyllama, llama-8b; how many layers is up to --bytes
  --bytes        as many layers as bring the weights near this size, such as 1GB
  --family       llama (default), mistral, qwen2, qwen3
  --dtype        BF16 (default), F16, F32
  --set          any whole number of config.json, such as --set num_hidden_layers=2
  --tokenizer    whose tokenizer files are copied; default examples/models/booklm
  --shard-bytes  several files with an index, each at most about this size
  --jobs         processes that write, each tensors of its own; the bytes are the same
  --pool         pieces of a few million drawn values, again and again: other bytes, as fast as the disk

Weights are normal(0, 0.02), norms normal(1, 0.02): each tensor from a generator keyed by seed and
tensor name, so the same arguments give the same bytes. Standard library only.
"""
import argparse
import array
import json
import os
import pathlib
import random
import shutil
import statistics
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = {
    "tiny": dict(hidden_size=64, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=16, vocab_size=4096,
                 max_position_embeddings=512, rope_theta=10000.0, tie_word_embeddings=True),
    "smollm2-135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, head_dim=64,
                         vocab_size=49152, max_position_embeddings=8192, rope_theta=100000.0,
                         tie_word_embeddings=True),
    "tinyllama": dict(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22,
                      num_attention_heads=32, num_key_value_heads=4, head_dim=64, vocab_size=32000,
                      max_position_embeddings=2048, rope_theta=10000.0, tie_word_embeddings=False),
    "llama-8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                     num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=128256,
                     max_position_embeddings=8192, rope_theta=500000.0, tie_word_embeddings=False),
}
FAMILIES = {  # architecture, biases of q k v, norms of q k
    "llama": ("LlamaForCausalLM", False, False),
    "mistral": ("MistralForCausalLM", False, False),
    "qwen2": ("Qwen2ForCausalLM", True, False),
    "qwen3": ("Qwen3ForCausalLM", False, True),
}
DTYPES = {"BF16": ("bfloat16", "H"), "F16": ("float16", "H"), "F32": ("float32", "I")}
QUANTILES = 65536
CHUNK_ELEMS = 1 << 20
POOL_ELEMS = 8 << 20
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size_of(text):
    digits = text.rstrip("KMGiB")
    return int(float(digits) * UNITS.get(text[len(digits):], 1))


def bits_of(value, dtype):
    """The bit pattern of a value, rounded to nearest even."""
    if dtype == "F16":
        return struct.unpack("<H", struct.pack("<e", value))[0]
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    if dtype == "F32":
        return bits
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def quantile_table(mean, dtype):
    normal = statistics.NormalDist(mean, 0.02)
    return [bits_of(normal.inv_cdf((i + 0.5) / QUANTILES), dtype) for i in range(QUANTILES)]


def tensors_of(config, family):
    """Name -> shape, in the order in which they are written."""
    hidden, middle = config["hidden_size"], config["intermediate_size"]
    q_rows = config["num_attention_heads"] * config["head_dim"]
    kv_rows = config["num_key_value_heads"] * config["head_dim"]
    _, has_bias, has_head_norms = FAMILIES[family]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        block = {
            "input_layernorm.weight": [hidden],
            "self_attn.q_proj.weight": [q_rows, hidden],
            "self_attn.k_proj.weight": [kv_rows, hidden],
            "self_attn.v_proj.weight": [kv_rows, hidden],
            "self_attn.o_proj.weight": [hidden, q_rows],
            "post_attention_layernorm.weight": [hidden],
            "mlp.gate_proj.weight": [middle, hidden],
            "mlp.up_proj.weight": [middle, hidden],
            "mlp.down_proj.weight": [hidden, middle],
        }
        if has_bias:
            block.update({f"self_attn.{n}_proj.bias": [q_rows if n == "q" else kv_rows]
                          for n in "qkv"})
        if has_head_norms:
            block.update({f"self_attn.{n}_norm.weight": [config["head_dim"]] for n in "qk"})
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in block.items()})
    shapes["model.norm.weight"] = [hidden]
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [config["vocab_size"], hidden]
    return shapes


def elems_of(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def draw(source, table, count, code):
    picks = array.array("H", source.randbytes(2 * count))
    values = array.array(code, map(table.__getitem__, picks))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def make_pools(tables, args):
    """Values to take pieces of, by table; None where every value is to be drawn."""
    if not args.pool:
        return [None] * len(tables)
    source = random.Random(args.seed)
    return [memoryview(draw(source, table, POOL_ELEMS, DTYPES[args.dtype][1])) for table in tables]


def write_tensor(file, name, shape, seed, tables, pools, code):
    source = random.Random(f"{seed} {name}")
    kind = "norm" in name.rsplit(".", 2)[-2]
    left = elems_of(shape)
    while left > 0:
        count = min(left, CHUNK_ELEMS)
        if pools[kind] is None:
            draw(source, tables[kind], count, code).tofile(file)
        else:
            start = source.randrange(POOL_ELEMS - count)
            file.write(pools[kind][start:start + count])
        left -= count


def write_header(path, shapes, dtype):
    """Makes the file at its full size; returns where each tensor's values begin."""
    item_bytes = array.array(DTYPES[dtype][1]).itemsize
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        end = offset + elems_of(shape) * item_bytes
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(start + offset)
    return {name: start + header[name]["data_offsets"][0] for name in shapes}


def write_tensors(tensors, args, tables, pools):
    """tensors: (path, offset, name, shape)"""
    for path, offset, name, shape in tensors:
        with open(path, "r+b") as file:
            file.seek(offset)
            write_tensor(file, name, shape, args.seed, tables, pools, DTYPES[args.dtype][1])


def deal(tensors, n):
    """n lists of about equal work, the largest tensors first."""
    shares, loads = [[] for _ in range(n)], [0] * n
    for tensor in sorted(tensors, key=lambda t: -elems_of(t[3])):
        least = loads.index(min(loads))
        shares[least].append(tensor)
        loads[least] += elems_of(tensor[3])
    return shares


def write_in_processes(tensors, args, tables, pools):
    children = []
    for share in deal(tensors, args.jobs):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                write_tensors(share, args, tables, pools)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    if any([os.waitpid(pid, 0)[1] for pid in children]):
        sys.exit("make_model: a process failed")


def split(shapes, item_bytes, limit_bytes):
    """Groups of tensors, each up to limit_bytes."""
    groups, filled = [{}], 0
    for name, shape in shapes.items():
        nbytes = elems_of(shape) * item_bytes
        if limit_bytes and groups[-1] and filled + nbytes > limit_bytes:
            groups.append({})
            filled = 0
        groups[-1][name] = shape
        filled += nbytes
    return groups


def write_weights(out, shapes, args):
    tables = [quantile_table(0.0, args.dtype), quantile_table(1.0, args.dtype)]
    item_bytes = array.array(DTYPES[args.dtype][1]).itemsize
    groups = split(shapes, item_bytes, args.shard_bytes)
    weight_map, tensors = {}, []
    for i, group in enumerate(groups, 1):
        name = "model.safetensors"
        if len(groups) > 1:
            name = f"model-{i:05d}-of-{len(groups):05d}.safetensors"
            weight_map.update({tensor: name for tensor in group})
        offsets = write_header(out / name, group, args.dtype)
        tensors += [(out / name, offsets[tensor], tensor, group[tensor]) for tensor in group]
    (write_in_processes if args.jobs > 1 else write_tensors)(tensors, args, tables,
                                                            make_pools(tables, args))
    if weight_map:
        total = sum(elems_of(shape) for shape in shapes.values()) * item_bytes
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def make_config(args):
    architecture = FAMILIES[args.family][0]
    config = {"architectures": [architecture], "model_type": args.family, "hidden_act": "silu",
              "rms_norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False,
              "torch_dtype": DTYPES[args.dtype][0], "bos_token_id": 1, "eos_token_id": 2,
              **SHAPES[args.like]}
    for change in args.set:
        key, value = change.split("=")
        config[key] = int(value)
    if args.bytes:
        item_bytes = array.array(DTYPES[args.dtype][1]).itemsize

        def total(layers):
            shapes = tensors_of({**config, "num_hidden_layers": layers}, args.family)
            return sum(elems_of(shape) for shape in shapes.values()) * item_bytes

        layer_bytes = total(1) - total(0)
        config["num_hidden_layers"] = max(1, round((args.bytes - total(0)) / layer_bytes))
    return config


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--like", choices=SHAPES, default="tiny")
    parser.add_argument("--bytes", type=size_of, default=0)
    parser.add_argument("--family", choices=FAMILIES, default="llama")
    parser.add_argument("--dtype", choices=DTYPES, default="BF16")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "examples/models/booklm")
    parser.add_argument("--shard-bytes", type=size_of, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--pool", action="store_true")
    args = parser.parse_args()

    config = make_config(args)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                 "generation_config.json"):
        if (args.tokenizer / name).exists():
            shutil.copyfile(args.tokenizer / name, args.out / name)
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_weights(args.out, tensors_of(config, args.family), args)


main()
