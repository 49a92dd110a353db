#!/usr/bin/env python3
"""Importance matrices beside llama.cpp's own tools.

usage: imatrix_test.py --build DIR --data DIR

RP_LLAMA_IMATRIX names llama-imatrix, RP_LLAMA_QUANTIZE_EXACT a llama-quantize that was built without
fused multiply-add (one with it gives other codes in rare ties).

1. Files of both kinds that llama-imatrix makes of booklm: we merge them to its bytes.
2. Our statistics are those of its --show-statistics.
3. A job that leaves every linear as it is writes the sums that llama-imatrix finds on the same
   tokens in the same model: every column of every layer, within f32's rounding of sums and products.
4. llama-quantize takes our files; with one importance matrix its tensors and ours are equal, byte
   for byte, the embedding's too when the matrix has an entry for it.
"""
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np

    from program import parser
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKLM = ROOT / "examples" / "models" / "booklm"
CHUNK = 128
N_CHUNKS = 24
# llama.cpp sums squares in f32 one by one, and its products differ from ours in their order.
SUM_BOUND = 5e-5
MIXES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K_S", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K",
         "IQ4_NL", "IQ4_XS"]
JOB = """\
model: {model}
output: {{dir: {out}, imatrix: own.gguf, formats: [{{gguf: F32}}]}}
calibration: {{text: {text}, num_calibration_samples: {chunks}, max_seq_length: {chunk}}}
recipe: [{{rtn: {{ignore: ["re:.*"]}}}}]
"""


def run(*command, cwd=None, **env):
    result = subprocess.run([str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            env={**os.environ, **env})
    output = result.stdout.decode(errors="replace")
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {result.returncode}\n{output[-2000:]}")
    return output


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


class Tools:
    def __init__(self, build, imatrix, quantize, scratch):
        self.rankpress = pathlib.Path(build).resolve() / "jobs" / "rankpress"
        self.programs = {"imatrix": pathlib.Path(imatrix).resolve(),
                         "quantize": pathlib.Path(quantize).resolve()}
        self.scratch = scratch

    def imatrix(self, *arguments, **env):
        """The cache in f32 and plain attention: what the forward pass is, without roundings."""
        return run(self.programs["imatrix"], "-m", "base/model-F32.gguf", "-t", "1", "-c", CHUNK,
                   "-b", CHUNK, "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-ppl",
                   "--override-kv", "tokenizer.ggml.add_bos_token=bool:false", *arguments,
                   cwd=self.scratch, **env)

    def quantize(self, *arguments):
        return run(self.programs["quantize"], *arguments, "1", cwd=self.scratch)

    def ours(self, *arguments):
        return run(self.rankpress, *arguments, cwd=self.scratch)


def make_base(tools):
    """booklm in F32, and with it the importance matrix of the same calibration."""
    text = (BOOKLM / "calibration.txt").read_bytes()
    for name, start in (("a.txt", 0), ("b.txt", 60000)):
        (tools.scratch / name).write_bytes(text[start:start + 60000])
    (tools.scratch / "base.yaml").write_text(
        JOB.format(model=BOOKLM, out="base", text="a.txt", chunks=N_CHUNKS, chunk=CHUNK))
    tools.ours("run", "base.yaml", "--quiet")


def check_merge(tools):
    tools.imatrix("-f", "a.txt", "-o", "a.gguf", "--chunks", N_CHUNKS)
    tools.imatrix("-f", "b.txt", "-o", "b.gguf", "--chunks", 7)
    tools.imatrix("-f", "a.txt", "-o", "a.dat", "--output-format", "dat", "--chunks", N_CHUNKS)
    cases = [("copy.gguf", ["a.gguf"]), ("copy.dat", ["a.gguf"]), ("two.gguf", ["a.gguf", "b.gguf"]),
             ("two.dat", ["b.gguf", "a.gguf"]), ("three.gguf", ["b.gguf", "a.gguf", "b.gguf"])]
    for name, inputs in cases:
        theirs = "theirs-" + name
        kind = ["--output-format", "dat"] if name.endswith(".dat") else []
        tools.imatrix("-o", theirs, *kind, *[w for path in inputs for w in ("--in-file", path)])
        tools.ours("imatrix", "merge", name, *inputs)
        if (tools.scratch / name).read_bytes() != (tools.scratch / theirs).read_bytes():
            sys.exit(f"{name}: merged from {inputs}, other bytes than llama-imatrix's")
    if (tools.scratch / "copy.dat").read_bytes() != (tools.scratch / "a.dat").read_bytes():
        sys.exit("a.gguf as a .dat is not llama-imatrix's own")
    return len(cases)


def rounded(value, decimals):
    """Half a unit of the last decimal that it prints, and f32's own errors."""
    return 0.5 * 10 ** -decimals + 2e-5 * abs(value)


def statistics(tools, path):
    """The rows of its table. It may end before its log's thread has written anything: a library
    that waits at the end gives it the time."""
    library = tools.scratch / "wait.so"
    (tools.scratch / "wait.c").write_text(
        "#include <unistd.h>\n__attribute__((destructor)) static void w(void) { sleep(1); }\n")
    run("cc", "-shared", "-fPIC", "-o", library, tools.scratch / "wait.c")
    output = tools.imatrix("--in-file", path, "--show-statistics", LD_PRELOAD=str(library))
    rows = [line.split(" I ", 1)[-1].replace("%", "").split() for line in output.splitlines()]
    return [cells for cells in rows if len(cells) == 13 and cells[0].isdigit()]


def check_show(tools):
    """Its table: layer, tensor, sum, min, max, mean, stddev, active, n, entropy, norm, ZD, cosine."""
    names = ["sum", "min", "max", "mean", "stddev", "active", "n", "entropy", "entropy_norm", "zd",
             "cosine_similarity"]
    decimals = [2, 4, 4, 2, 2, 2, 0, 4, 2, 2, 4]
    ours = {t["tensor"]: t for t in json.loads(
        tools.ours("imatrix", "show", "a.gguf", "--json"))["tensors"]}
    rows = statistics(tools, "a.gguf")
    for cells in rows:
        row = ours[f"blk.{cells[0]}.{cells[1]}.weight"]
        for name, digits, cell in zip(names, decimals, cells[2:]):
            value = row[name] * (100 if name in ("active", "entropy_norm", "zd") else 1)
            if abs(value - float(cell)) > rounded(value, digits):
                sys.exit(f"{row['tensor']}: {name} is {value}, llama-imatrix says {cell}")
    if len(rows) != len(ours):
        sys.exit(f"compared {len(rows)} of {len(ours)} tensors")
    return len(rows)


def check_sums(tools):
    ours = tensors(tools.scratch / "base" / "own.gguf")
    theirs = tensors(tools.scratch / "a.gguf")
    if set(ours) != set(theirs):
        sys.exit(f"entries differ: {sorted(set(ours) ^ set(theirs))}")
    worst = 0
    for name, tensor in ours.items():
        a, b = tensor.data.astype(np.float64), theirs[name].data.astype(np.float64)
        if name.endswith(".counts"):
            assert (a == b).all(), (name, a, b)
            continue
        worst = max(worst, float(np.max(np.abs(a - b) / np.maximum(b, 1e-30))))
    if worst > SUM_BOUND:
        sys.exit(f"a sum differs by {worst:.2g} of itself, more than {SUM_BOUND}")
    return worst


def add_embedding(scratch):
    """a.dat with an entry for the embedding, which llama-imatrix never makes."""
    data = (scratch / "a.dat").read_bytes()
    name = b"token_embd.weight"
    values = 0.1 + np.random.default_rng(3).exponential(size=256)
    entry = (struct.pack("<i", len(name)) + name + struct.pack("<ii", 3, 256)
             + values.astype("<f4").tobytes())
    (n,) = struct.unpack_from("<i", data)
    (scratch / "embedding.dat").write_bytes(struct.pack("<i", n + 1) + entry + data[4:])


def check_quantize(tools, mix, matrix):
    name = f"{mix}-{matrix}"
    tools.quantize("--imatrix", matrix, "base/model-F32.gguf", f"theirs-{name}.gguf", mix)
    (tools.scratch / "job.yaml").write_text(
        f"model: {BOOKLM}\noutput: {{dir: {name}, formats: [{{gguf: {mix}}}]}}\n"
        f"recipe: [{{rtn: {{imatrix: {matrix}}}}}]\n")
    tools.ours("run", "job.yaml", "--quiet")
    path = tools.scratch / name / f"model-{mix}.gguf"
    ours, theirs = tensors(path), tensors(tools.scratch / f"theirs-{name}.gguf")
    for tensor in theirs.values():
        mine = ours[tensor.name]
        if (mine.tensor_type != tensor.tensor_type
                or np.asarray(mine.data).tobytes() != np.asarray(tensor.data).tobytes()):
            sys.exit(f"{name}: {tensor.name} is not llama-quantize's")
    keys = [{k: f.contents() for k, f in gguf.GGUFReader(p).fields.items() if "imatrix" in k}
            for p in (path, tools.scratch / f"theirs-{name}.gguf")]
    if keys[0] != keys[1] or len(keys[0]) != 4:
        sys.exit(f"{name}: keys {keys}")
    return len(theirs)


def main():
    args = parser().parse_args()
    imatrix, quantize = map(os.environ.get, ("RP_LLAMA_IMATRIX", "RP_LLAMA_QUANTIZE_EXACT"))
    if not imatrix or not quantize:
        print("skipped: needs RP_LLAMA_IMATRIX and RP_LLAMA_QUANTIZE_EXACT")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as scratch:
        tools = Tools(args.build, imatrix, quantize, pathlib.Path(scratch))
        make_base(tools)
        merged = check_merge(tools)
        rows = check_show(tools)
        worst = check_sums(tools)
        add_embedding(tools.scratch)
        (tools.scratch / "base" / "own.gguf").rename(tools.scratch / "own.gguf")
        n = sum(check_quantize(tools, mix, matrix)
                for mix in MIXES for matrix in ("own.gguf", "embedding.dat"))
    print(f"{merged} merged files equal, {rows} rows of statistics, sums within {worst:.1g}, "
          f"{n} tensors of {len(MIXES)} mixes equal")


main()
