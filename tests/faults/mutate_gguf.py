#!/usr/bin/env python3
"""Copies a GGUF file with one thing wrong, or another.   usage: mutate_gguf.py FILE OUT KIND

Standard library only. KIND is a key of the table below.
"""
import pathlib
import re
import struct
import sys

NORM = b"output_norm.weight"


def at_start(offset, fmt, value):
    """Puts a number of the header in place."""
    def change(data):
        struct.pack_into(fmt, data, offset, value)
        return data
    return change


def instead(old, new):
    """Text of the header in place of other text of the same length, where it comes first."""
    def change(data):
        at = data.index(old)
        data[at:at + len(old)] = new
        return data
    return change


def in_norm(offset, fmt, value):
    """A number behind the name of the last norm: u32 dims, i64 ne, i32 type, u64 offset."""
    def change(data):
        struct.pack_into(fmt, data, data.index(NORM) + len(NORM) + offset, value)
        return data
    return change


def as_nvfp4(data):
    """Matrices of Q4_0 become as many of NVFP4: blocks of twice the size, and any bytes are values."""
    info = rb"(\.weight\x02\0\0\0.{16})\x02\0\0\0"
    return re.sub(info, rb"\1" b"\x28\0\0\0", bytes(data), flags=re.DOTALL)


KINDS = {
    "magic": instead(b"GGUF", b"GGML"),
    "version_1": at_start(4, "<I", 1),
    "byte_swapped": at_start(4, ">I", 3),
    "n_tensors": at_start(8, "<q", -1),
    "n_kv": at_start(16, "<Q", 1 << 61),
    "key_bytes": at_start(24, "<Q", 1 << 62),
    "twin_key": instead(b"general.name", b"general.type"),
    "architecture": instead(b"llama", b"mamba"),
    "missing_key": instead(b"llama.block_count", b"llama.block_c0unt"),
    "no_tokenizer": instead(b"tokenizer.ggml.model", b"tokenizer.ggml.m0del"),
    "strange_tensor": instead(NORM, b"output_n0rm.weight"),
    "n_dims": in_norm(0, "<I", 5),
    "shape": in_norm(4, "<q", 7),
    "negative": in_norm(4, "<q", -256),
    "type": in_norm(12, "<i", 4),
    "offset": in_norm(16, "<Q", 1 << 40),
    "cut_header": lambda data: data[:100],
    "cut_data": lambda data: data[:-100],
    "nvfp4": as_nvfp4,
    "not_finite": lambda data: data[:-256] + b"\xff" * 256,
}


def main():
    source, out, kind = sys.argv[1:]
    pathlib.Path(out).write_bytes(KINDS[kind](bytearray(pathlib.Path(source).read_bytes())))


main()
