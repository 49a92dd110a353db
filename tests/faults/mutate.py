#!/usr/bin/env python3
"""Copies a model folder with one thing wrong.   usage: mutate.py MODEL OUT KIND

Standard library only. KIND is the name of a function below without `make_`.
"""
import json
import pathlib
import shutil
import struct
import sys


class Weights:
    """model.safetensors of a folder: header as a dict, data as bytes."""

    def __init__(self, folder):
        self.path = folder / "model.safetensors"
        raw = self.path.read_bytes()
        (header_bytes,) = struct.unpack("<Q", raw[:8])
        self.header = json.loads(raw[8:8 + header_bytes])
        self.data = bytearray(raw[8 + header_bytes:])

    def save(self, text=None):
        text = (text or json.dumps(self.header)).encode()
        text += b" " * (-len(text) % 8)
        self.path.write_bytes(struct.pack("<Q", len(text)) + text + self.data)


def edit_json(path, **changes):
    values = json.loads(path.read_text())
    values.update(changes)
    path.write_text(json.dumps(values))


Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
NORM = "model.norm.weight"


def make_truncated(folder):
    weights = Weights(folder)
    weights.data = weights.data[:-100]
    weights.save()


def make_trailing_bytes(folder):
    weights = Weights(folder)
    weights.data += b"\0" * 64
    weights.save()


def make_overlapping(folder):
    weights = Weights(folder)
    begin, end = weights.header[NORM]["data_offsets"]
    weights.header[NORM]["data_offsets"] = [begin - 2, end - 2]
    weights.save()


def make_duplicate(folder):
    weights = Weights(folder)
    text = json.dumps(weights.header)
    entry = json.dumps(weights.header[NORM])
    weights.save(text[:-1] + f', "{NORM}": {entry}}}')


def make_oversized_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])


def make_empty_weights(folder):
    (folder / "model.safetensors").write_bytes(b"")


def make_header_not_json(folder):
    Weights(folder).save('{"a": ')


def make_wrong_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", intermediate_size=config["intermediate_size"] + 32)


def make_missing_tensor(folder):
    weights = Weights(folder)
    names = list(weights.header)
    last = max((n for n in names if n != "__metadata__"),
               key=lambda n: weights.header[n]["data_offsets"][1])
    begin = weights.header.pop(last)["data_offsets"][0]
    del weights.data[begin:]
    weights.save()


def make_nan(folder):
    weights = Weights(folder)
    begin = weights.header[Q_PROJ]["data_offsets"][0]
    weights.data[begin + 10:begin + 12] = b"\xc0\x7f"  # BF16 NaN
    weights.save()


def make_bad_dtype(folder):
    weights = Weights(folder)
    weights.header[NORM]["dtype"] = "BF17"
    weights.save()


def make_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def make_bad_tokenizer(folder):
    edit_json(folder / "tokenizer.json", normalizer={"type": "NoSuchNormalizer"})


def make_no_config(folder):
    (folder / "config.json").unlink()


def make_bad_config(folder):
    (folder / "config.json").write_text('{"model_type": "llama", ')


def make_unknown_family(folder):
    edit_json(folder / "config.json", model_type="mamba", architectures=["MambaForCausalLM"])


def make_no_weights(folder):
    (folder / "model.safetensors").unlink()


def main():
    source, out, kind = sys.argv[1:]
    shutil.copytree(source, out)
    globals()["make_" + kind](pathlib.Path(out))


main()
