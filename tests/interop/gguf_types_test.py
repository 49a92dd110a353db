#!/usr/bin/env python3
"""Our GGUF quantisers beside ggml's own, bit for bit.

usage: gguf_types_test.py --build DIR --data DIR [--blocks N]

RP_GGML_EXACT names a libggml-base.so built with -ffp-contract=off (a build with contraction gives
other codes in rare ties). Its ggml_quantize_chunk quantises the same values: its blocks are
compared as they are and unpacked (codes, parameters), and the values that it reads from them.
"""
import argparse
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

V_IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]


def f16(b):
    return np.ascontiguousarray(b).view(np.float16).astype(np.float32)


def nibbles(qs):
    """[n, 16 k] bytes -> [n, k, 32]: low nibbles, then high ones."""
    q = qs.reshape(len(qs), -1, 16)
    return np.concatenate([q & 15, q >> 4], axis=2).reshape(len(qs), -1)


def pairs32(qs):
    """Pieces of 32 bytes hold 64 codes."""
    q = qs.reshape(len(qs), -1, 32)
    return np.concatenate([q & 15, q >> 4], axis=2).reshape(len(qs), -1)


def quads32(qs):
    q = qs.reshape(len(qs), -1, 1, 32)
    return ((q >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3).reshape(len(qs), -1)


def k4_scales(b):
    b = b.astype(np.uint8)
    s = np.concatenate([b[:, 0:4] & 63, (b[:, 8:12] & 15) | (b[:, 0:4] >> 6 << 4)], axis=1)
    m = np.concatenate([b[:, 4:8] & 63, (b[:, 8:12] >> 4) | (b[:, 4:8] >> 6 << 4)], axis=1)
    return s, m


def high_bits(b):
    return (np.ascontiguousarray(b).view("<u4") >> np.arange(32, dtype=np.uint32)) & 1


def bits_by_32(b):
    """Bit j of byte i belongs to value 32 j + i."""
    return ((b[:, None, :] >> np.arange(8, dtype=np.uint8)[None, :, None]) & 1).reshape(len(b), -1)


def tq1(b):
    def trits(q, n):
        q = q.astype(np.uint16)[:, None, :] * np.array([1, 3, 9, 27, 81], np.uint16)[None, :n, None]
        return ((q & 255) * 3 >> 8).reshape(len(b), -1)
    return np.concatenate([trits(b[:, :32], 5), trits(b[:, 32:48], 5), trits(b[:, 48:52], 4)],
                          axis=1)


def cat(*columns):
    return np.concatenate([c.astype(np.float32).reshape(len(c), -1) for c in columns], axis=1)


def unpack(name, b):
    """Bytes [n, block bytes] -> codes [n, block], params [n, n_params]."""
    if name == "Q4_0" or name == "IQ4_NL":
        return nibbles(b[:, 2:]), f16(b[:, :2])
    if name == "Q4_1":
        return nibbles(b[:, 4:]), f16(b[:, :4])
    if name == "Q5_0":
        return nibbles(b[:, 6:]) | high_bits(b[:, 2:6]) << 4, f16(b[:, :2])
    if name == "Q5_1":
        return nibbles(b[:, 8:]) | high_bits(b[:, 4:8]) << 4, f16(b[:, :4])
    if name == "Q8_0":
        return b[:, 2:].view(np.int8).astype(int) + 128, f16(b[:, :2])
    if name == "Q2_K":
        return quads32(b[:, 16:80]), cat(f16(b[:, 80:84]), b[:, :16] & 15, b[:, :16] >> 4)
    if name == "Q3_K":
        s = b[:, 96:108]
        low = np.concatenate([s[:, :8] & 15, s[:, :8] >> 4], axis=1)
        high = (s[:, 8:].reshape(-1, 1, 4) >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3
        scale = (low | high.reshape(-1, 16) << 4).astype(int) - 32
        return quads32(b[:, 32:96]) | bits_by_32(b[:, :32]) << 2, cat(f16(b[:, 108:]), scale)
    if name == "Q4_K":
        return pairs32(b[:, 16:]), cat(f16(b[:, :4]), *k4_scales(b[:, 4:16]))
    if name == "Q5_K":
        return (pairs32(b[:, 48:]) | bits_by_32(b[:, 16:48]) << 4,
                cat(f16(b[:, :4]), *k4_scales(b[:, 4:16])))
    if name == "Q6_K":
        low = b[:, :128].reshape(-1, 2, 1, 64)
        low = np.concatenate([low & 15, low >> 4], axis=2).reshape(len(b), -1)
        return (low | quads32(b[:, 128:192]) << 4,
                cat(f16(b[:, 208:]), np.ascontiguousarray(b[:, 192:208]).view(np.int8)))
    if name == "IQ4_XS":
        h = np.ascontiguousarray(b[:, 2:4]).view("<u2") >> (2 * np.arange(8, dtype=np.uint16)) & 3
        low = np.stack([b[:, 4:8] & 15, b[:, 4:8] >> 4], axis=2).reshape(-1, 8)
        return nibbles(b[:, 8:]), cat(f16(b[:, :2]), (low | h << 4).astype(int) - 32)
    if name == "TQ1_0":
        return tq1(b), f16(b[:, 52:])
    if name == "TQ2_0":
        return quads32(b[:, :64]), f16(b[:, 64:])
    if name == "MXFP4":
        return nibbles(b[:, 1:]), cat(np.ldexp(1.0, b[:, 0].astype(int) - 128))
    raise KeyError(name)


# name: ggml's number, values and bytes of a block
TYPES = {
    "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "IQ4_NL": (20, 32, 18),
    "IQ4_XS": (23, 256, 136), "TQ1_0": (34, 256, 54), "TQ2_0": (35, 256, 66), "MXFP4": (39, 32, 17),
}
COLS = 1024


def distributions(rng, rows):
    """name -> values [rows, COLS]; rows a multiple of 8."""
    n = (rows, COLS)
    gauss = rng.standard_normal(n)
    one = np.zeros(n)
    one[np.arange(rows)[:, None], np.arange(0, COLS, 32) + rng.integers(0, 32, (rows, COLS // 32))] = \
        rng.standard_normal((rows, COLS // 32))
    constant = np.repeat(rng.standard_normal((rows, COLS // 16)), 16, axis=1)
    return {
        "gaussian": gauss * 0.02,
        "heavy tail": rng.standard_t(2, n) * 0.02,
        "sparse": gauss * (rng.random(n) < 0.1),
        "mostly zero": gauss * (rng.random(n) < 0.002),
        "zeros": np.zeros(n),
        "minus zeros": np.where(rng.random(n) < 0.5, 0.0, -0.0),
        "denormal": gauss * 1e-39,
        "tiny": gauss * 10.0 ** rng.uniform(-38, -10, (rows, 1)),
        "fp16 denormal steps": gauss * 10.0 ** rng.uniform(-8, -4, (rows, 1)),
        "huge": gauss * 10.0 ** rng.uniform(4, 5.5, (rows, 1)),
        "far beyond fp16": gauss * 10.0 ** rng.uniform(6, 37, (rows, 1)),
        "constant": constant,
        "nearly constant": constant * (1 + 2e-7 * rng.integers(-2, 3, n)),
        "nearly constant, negative": -np.abs(constant) * (1 + 1e-5 * gauss),
        "one of 32": one,
        "integers": np.round(gauss * 4),
        "halves": np.round(gauss * 8) / 2,
        "positive": np.abs(gauss),
        "negative": -np.abs(gauss),
        "scales of rows and groups": gauss * 10.0 ** rng.uniform(-3, 0, (rows, 1)) *
        np.repeat(10.0 ** rng.uniform(-2, 0, (rows, COLS // 32)), 32, axis=1),
        "powers of two": np.ldexp(np.sign(gauss), rng.integers(-6, 4, n)),
    }


def importances(rng):
    spread = np.exp(rng.standard_normal(COLS) * 2)
    holes = np.where(rng.random(COLS) < 0.3, 0, spread)
    holes[256:512] = 0
    return {"none": None, "spread": spread, "with holes": holes, "large": spread * 1e12}


class Ggml:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.ggml_quantize_chunk.restype = ctypes.c_size_t

    def blocks(self, name, x, importance):
        number, block, size = TYPES[name]
        out = np.zeros((x.size // block, size), np.uint8)
        pointer = None if importance is None else importance.ctypes.data_as(ctypes.c_void_p)
        self.lib.ggml_quantize_chunk(
            ctypes.c_int(number), x.ctypes.data_as(ctypes.c_void_p),
            out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0), ctypes.c_int64(x.shape[0]),
            ctypes.c_int64(x.shape[1]), pointer)
        return out

    def decoded(self, name, blocks):
        """By ggml's own dequantiser."""
        function = getattr(self.lib, "dequantize_row_" + name.lower()
                           .replace("_k", "_K"))
        out = np.zeros(len(blocks) * TYPES[name][1], np.float32)
        function(blocks.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p),
                 ctypes.c_int64(out.size))
        return out


def ours(driver, name, x, importance, folder):
    x.tofile(folder / "x")
    if importance is not None:
        importance.tofile(folder / "importance")
    subprocess.run([driver, name, str(x.shape[0]), str(x.shape[1]), folder / "x",
                    "-" if importance is None else folder / "importance",
                    folder / "codes", folder / "params", folder / "decoded", folder / "blocks"],
                   check=True, stderr=subprocess.DEVNULL)
    block = TYPES[name][1]
    return (np.fromfile(folder / "codes", np.uint8).reshape(-1, block),
            np.fromfile(folder / "params", np.float32).reshape(x.size // block, -1),
            np.fromfile(folder / "decoded", np.float32),
            np.fromfile(folder / "blocks", np.uint8))


def compare(name, what, got, want, x):
    """Bits, but for NaN."""
    same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want)) \
        if got.dtype == np.float32 else got == want
    if same.all():
        return 0
    bad = np.unique(np.nonzero(~same)[0])
    first = bad[0]
    print(f"{name}: {what}: {len(bad)} of {len(got)} blocks differ, first {first}: "
          f"got {got[first].tolist()} want {want[first].tolist()} of "
          f"{x.reshape(len(got), -1)[first].tolist()}")
    return len(bad)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--data")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--rows", type=int, default=16, help="of 1024 columns, a case")
    parser.add_argument("--types", nargs="*", default=list(TYPES))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    path = os.environ.get("RP_GGML_EXACT")
    if not path:
        print("skipped: RP_GGML_EXACT does not name a libggml-base.so without contraction")
        sys.exit(77)
    ggml = Ggml(path)
    driver = args.build / "tests" / "interop" / "gguf_types_driver"
    failures = blocks = 0
    rng = np.random.default_rng(args.seed)
    np.seterr(over="ignore")
    with tempfile.TemporaryDirectory() as folder:
        for kind, values in distributions(rng, args.rows).items():
            x = np.ascontiguousarray(values, np.float32)
            assert np.isfinite(x).all()
            for weights, importance in importances(rng).items():
                if importance is not None:
                    importance = importance.astype(np.float32)
                for name in args.types:
                    packed = ggml.blocks(name, x, importance)
                    codes, params = unpack(name, packed)
                    got = ours(driver, name, x, importance, pathlib.Path(folder))
                    case = f"{kind}, importance {weights}"
                    bad = compare(name, case + ", params", got[1], params.astype(np.float32), x)
                    bad += compare(name, case + ", codes", got[0].astype(int), codes.astype(int), x)
                    bad += compare(name, case + ", decoded", got[2].reshape(len(codes), -1),
                                   ggml.decoded(name, packed).reshape(len(codes), -1), x)
                    if np.isfinite(got[1]).all():
                        bad += compare(name, case + ", blocks",
                                       got[3].reshape(packed.shape), packed, x)
                    else:  # such are not written
                        bad += got[3].size != 0
                    failures += bad > 0
                    blocks += len(codes)
    print(f"{blocks} blocks of {len(args.types)} types beside {path}, {failures} cases differ")
    sys.exit(1 if failures else 0)


main()
