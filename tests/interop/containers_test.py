#!/usr/bin/env python3
"""Our safetensors files against the `safetensors` package, our GPTQ and compressed-tensors tensors
against a decoder written here from the formats' descriptions, both ways.

usage: containers_test.py --build DIR [--data DIR] [--peers]
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

MODEL = pathlib.Path(__file__).resolve().parents[2] / "examples" / "models" / "booklm"
CASES = [  # container, bits, group, symmetric, variant, largest shard
    ("gptq", 4, 128, "sym", "v1", 0),
    ("gptq", 4, 64, "asym", "v1", 0),
    ("gptq", 3, 0, "asym", "v2", 0),
    ("gptq", 2, 48, "sym", "v1", 0),
    ("gptq", 8, 32, "asym", "v2", 1500000),
    ("compressed-tensors", 4, 128, "sym", "v1", 0),
    ("compressed-tensors", 4, 32, "asym", "v1", 1000000),
    ("compressed-tensors", 8, 0, "sym", "v1", 0),
    ("safetensors", 5, 32, "asym", "v1", 700000),
]


def unpack(words, bits, n):
    """Codes [rows, n] from words [rows, k] of a dense stream, lowest bits first."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    stream = stream[:, :n * bits].reshape(words.shape[0], n, bits).astype(np.int64)
    return (stream << np.arange(bits)).sum(axis=2)


def decode_gptq(tensors, module, quant):
    groups = tensors[module + ".g_idx"]
    words = tensors[module + ".qweight"]
    scales = tensors[module + ".scales"].astype(np.float32)
    bits = words.shape[0] * 32 // len(groups)
    codes = unpack(words.T, bits, len(groups))
    zeros = unpack(tensors[module + ".qzeros"], bits, words.shape[1])
    zeros += quant.get("checkpoint_format", "gptq") == "gptq"
    return scales[groups].T * (codes - zeros[groups].T).astype(np.float32)


def decode_compressed(tensors, module, quant):
    rows, cols = tensors[module + ".weight_shape"]
    scales = tensors[module + ".weight_scale"].astype(np.float32)
    weights = next(iter(quant["config_groups"].values()))["weights"]
    bits = weights["num_bits"]
    codes = unpack(tensors[module + ".weight_packed"], bits, cols)
    zeros = np.full(scales.shape, 1 << (bits - 1))
    if not weights["symmetric"]:
        zeros = unpack(tensors[module + ".weight_zero_point"].T, bits, rows).T
    groups = tensors.get(module + ".weight_g_idx", np.arange(cols) // (cols // scales.shape[1]))
    return scales[:, groups] * (codes - zeros[:, groups]).astype(np.float32)


DECODERS = {"gptq": (".qweight", decode_gptq),
            "compressed-tensors": (".weight_packed", decode_compressed)}


def load_folder(folder):
    """All tensors; every file is checked to be the reference writer's, byte for byte."""
    tensors = {}
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    for path in files:
        part = load_file(path)
        again = folder / "again"
        save_file(part, again, metadata={"format": "pt"})
        assert again.read_bytes() == path.read_bytes(), f"{path.name}: not the reference's bytes"
        again.unlink()
        assert not tensors.keys() & part.keys(), f"{path.name}: tensors twice"
        tensors.update(part)
        if len(files) > 1:
            weight_map = json.loads(index.read_text())["weight_map"]
            assert all(weight_map[name] == path.name for name in part), f"{path.name}: index"
    if len(files) > 1:
        total = json.loads(index.read_text())["metadata"]["total_size"]
        assert total == sum(t.nbytes for t in tensors.values()), "total_size"
        assert len(weight_map) == len(tensors), "index"
    return tensors


def decode_folder(folder, tensors):
    quant = json.loads((folder / "config.json").read_text()).get("quantization_config")
    if quant is None:
        return {name: t.astype(np.float32) for name, t in tensors.items()}
    suffix, decode = DECODERS[quant["quant_method"]]
    out = {name: t.astype(np.float32) for name, t in tensors.items()
           if name.endswith(("norm.weight", "embed_tokens.weight"))}
    for name in tensors:
        if name.endswith(suffix):
            module = name[:-len(suffix)]
            out[module + ".weight"] = decode(tensors, module, quant)
    return out


def expect_same(driver, folder, scratch, want):
    """Our reader sees what this file's decoder sees."""
    plain = scratch / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    plain.mkdir()
    subprocess.run([driver, folder, plain, "f32"], check=True)
    got = load_file(plain / "model.safetensors")
    assert got.keys() == want.keys(), got.keys() ^ want.keys()
    for name, values in want.items():
        assert np.array_equal(got[name], values), name


def reorder_groups(folder, tensors):
    """Act-order as other writers store it: any group for any column."""
    random = np.random.default_rng(0)
    for name in tensors:
        if name.endswith(".g_idx"):
            tensors[name] = random.permutation(tensors[name])
        if name.endswith(".weight_packed"):
            module = name.removesuffix(".weight_packed")
            cols = int(tensors[module + ".weight_shape"][1])
            n_groups = tensors[module + ".weight_scale"].shape[1]
            groups = np.arange(cols, dtype=np.int32) // (cols // n_groups)
            tensors = {**tensors, module + ".weight_g_idx": random.permutation(groups)}
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def check_case(driver, case, scratch, original):
    container, bits, group, symmetry, variant, shard_bytes = case
    folder = scratch / "packed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run([driver, MODEL, folder, *map(str, case)], check=True)
    tensors = load_folder(folder)
    decoded = decode_folder(folder, tensors)
    assert decoded.keys() == original.keys(), decoded.keys() ^ original.keys()
    for name, values in decoded.items():
        if name.endswith("_proj.weight"):
            error = np.square(values - original[name]).mean() / np.square(original[name]).mean()
            assert error < 2 * 4.0 ** (1 - bits), f"{name}: relative error {error}"
    expect_same(driver, folder, scratch, decoded)
    if container != "safetensors":
        tensors = reorder_groups(folder, tensors)
        expect_same(driver, folder, scratch, decode_folder(folder, tensors))
    return f"{container} {bits} bits group {group} {symmetry} {variant} shards of {shard_bytes}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--peers", action="store_true")
    driver = parser.parse_args().build.resolve() / "tests" / "interop" / "containers_driver"
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        plain = scratch / "original"
        plain.mkdir()
        subprocess.run([driver, MODEL, plain, "f32"], check=True)
        original = load_file(plain / "model.safetensors")
        for case in CASES:
            print(check_case(driver, case, scratch, original))
    print(f"{len(CASES)} containers read and written as others do")


if __name__ == "__main__":
    sys.exit(main())
