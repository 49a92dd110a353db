#!/usr/bin/env python3
"""Our decoders of GGUF blocks beside other programs', bit for bit.

usage: gguf_decode_test.py --build DIR [--blocks N] [--seed N]

1. Random blocks of every type, their scales finite: our values are those of the `gguf` package.
2. Where RP_GGML_EXACT names a libggml-base.so built with -ffp-contract=off: also those of ggml's
   dequantize_row functions, for any bytes at all (a NaN is a NaN, whatever its bits), and rows that
   we encode, with importance and without, are the bytes of its ggml_quantize_chunk.
"""
import argparse
import ctypes
import os
import pathlib
import subprocess
import sys

try:
    import gguf
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

# Types and ids: elements and bytes of a block, the high bytes of what is fp16 there.
SIZES = {
    "Q4_0": (2, 32, 18, [1]), "Q4_1": (3, 32, 20, [1, 3]), "Q5_0": (6, 32, 22, [1]),
    "Q5_1": (7, 32, 24, [1, 3]), "Q8_0": (8, 32, 34, [1]), "Q2_K": (10, 256, 84, [81, 83]),
    "Q3_K": (11, 256, 110, [109]), "Q4_K": (12, 256, 144, [1, 3]), "Q5_K": (13, 256, 176, [1, 3]),
    "Q6_K": (14, 256, 210, [209]), "IQ2_XXS": (16, 256, 66, [1]), "IQ2_XS": (17, 256, 74, [1]),
    "IQ3_XXS": (18, 256, 98, [1]), "IQ1_S": (19, 256, 50, [1]), "IQ4_NL": (20, 32, 18, [1]),
    "IQ3_S": (21, 256, 110, [1]), "IQ2_S": (22, 256, 82, [1]), "IQ4_XS": (23, 256, 136, [1]),
    "IQ1_M": (29, 256, 56, [55]), "TQ1_0": (34, 256, 54, [53]), "TQ2_0": (35, 256, 66, [65]),
    "MXFP4": (39, 32, 17, []), "NVFP4": (40, 64, 36, []), "Q1_0": (41, 128, 18, [1]),
    "Q2_0": (42, 64, 18, [1]),
}
WRITTEN = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
           "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4"]
NOT_IN_PACKAGE = {"Q1_0", "Q2_0"}  # gguf 0.19 has no decoder of these
ROWS, COLS = 24, 1024


class Ggml:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.ggml_quantize_chunk.restype = ctypes.c_size_t

    def decoded(self, name, blocks):
        out = np.empty(len(blocks) * SIZES[name][1], np.float32)
        stem = name[:-2].lower() + "_K" if name.endswith("_K") else name.lower()
        getattr(self.lib, "dequantize_row_" + stem)(
            blocks.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(out.size))
        return out

    def encoded(self, name, rows, importance):
        number, elems, size, _ = SIZES[name]
        out = np.zeros(rows.size // elems * size, np.uint8)
        weights = None if importance is None else importance.ctypes.data_as(ctypes.c_void_p)
        written = self.lib.ggml_quantize_chunk(
            number, rows.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(0), ctypes.c_int64(rows.shape[0]), ctypes.c_int64(rows.shape[1]), weights)
        assert written == out.size, f"{name}: ggml wrote {written} bytes of {out.size}"
        return out


def run(driver, *arguments, stdin):
    result = subprocess.run([driver, *map(str, arguments)], input=stdin, capture_output=True)
    if result.returncode != 0:
        sys.exit(f"{arguments}: {result.stderr.decode()}")
    return result.stdout


def decoded(driver, name, blocks):
    return np.frombuffer(run(driver, "decode", name, stdin=blocks.tobytes()), np.float32)


def check_values(name, ours, theirs, whose):
    other = (ours.view(np.uint32) != theirs.view(np.uint32)) & ~(np.isnan(ours) & np.isnan(theirs))
    assert ours.size == theirs.size, f"{name}: {ours.size} values, {whose}: {theirs.size}"
    assert not other.any(), (f"{name}: {other.sum()} of {ours.size} values differ, first "
                             f"{ours[other][0]!r}, {whose}: {theirs[other][0]!r}")


def check_decoder(driver, ggml, name, blocks):
    any_bytes = blocks
    blocks = blocks.copy()
    blocks[:, SIZES[name][3]] &= 0xbf
    ours = decoded(driver, name, blocks)
    if name not in NOT_IN_PACKAGE:
        with np.errstate(over="ignore", invalid="ignore"):
            theirs = gguf.dequantize(blocks, gguf.GGMLQuantizationType[name])
        check_values(name, ours, theirs.astype(np.float32).reshape(-1), "the package")
    if ggml is not None:
        check_values(name, ours, ggml.decoded(name, blocks), "ggml")
        check_values(name, decoded(driver, name, any_bytes), ggml.decoded(name, any_bytes), "ggml")


def check_encoder(driver, ggml, name, rng):
    rows = rng.standard_t(4, (ROWS, COLS)).astype(np.float32)
    rows[0] = 0
    rows[1, ::3] = 0
    rows[2] *= np.float32(1e-37)  # below 2^-125 MXFP4 has no exponent, here and in ggml
    rows[3] *= np.float32(1e-6)
    rows[4] *= np.float32(1e3)
    rows[5] = np.abs(rows[5])
    for importance in (None, rng.gamma(0.5, 1, COLS).astype(np.float32)):
        first = np.full(COLS, -1, np.float32) if importance is None else importance
        ours = np.frombuffer(run(driver, "encode", name, COLS, stdin=first.tobytes() + rows.tobytes()),
                             np.uint8)
        theirs = ggml.encoded(name, rows, importance)
        size = SIZES[name][2]
        other = (ours.reshape(-1, size) != theirs.reshape(-1, size)).any(1)
        assert not other.any(), (f"{name}: {other.sum()} of {other.size} blocks differ, first "
                                 f"{other.argmax()}, importance {importance is not None}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--data")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--blocks", type=int, default=4000, help="of each type")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    exact = os.environ.get("RP_GGML_EXACT")
    ggml = Ggml(exact) if exact else None
    driver = args.build / "tests" / "interop" / "gguf_driver"
    rng = np.random.default_rng(args.seed)
    for name, (_, _, size, _) in SIZES.items():
        check_decoder(driver, ggml, name, rng.integers(0, 256, (args.blocks, size), np.uint8))
    n_package = len(SIZES) - len(NOT_IN_PACKAGE)
    line = f"{args.blocks} blocks each: values of {n_package} types as the gguf package's"
    if ggml is not None:
        for name in WRITTEN:
            check_encoder(driver, ggml, name, rng)
        line += f"; of all {len(SIZES)} as ggml's, rows of {len(WRITTEN)} encoded to its bytes"
    else:
        line += "; ggml itself not asked (RP_GGML_EXACT is not set)"
    print(line)


main()
