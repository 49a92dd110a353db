#!/usr/bin/env python3
"""Our plain rounding beside llama-quantize: one GGUF source, one importance matrix, every mix; the
same tensors in the same order, of the same types, with the same bytes.

usage: llama_quantize_test.py --build DIR --data DIR [--peers]

RP_LLAMA_QUANTIZE_EXACT names a llama-quantize that was built without fused multiply-add
(-DCMAKE_C_FLAGS=-ffp-contract=off, the same for C++), since that changes codes; without it the test
is skipped.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np

    from program import FLOATS, Program, call, parser
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKLM = ROOT / "examples" / "models" / "booklm"
N_TOKENS = 65536
SHARED_KEYS = ("general.file_type", "general.quantization_version", "quantize.imatrix.dataset",
               "quantize.imatrix.entries_count", "quantize.imatrix.chunks_count")
RANDOM_MODELS = {  # name: arguments of make_model.py; the first with 4 heads a KV head, so
    # that rules on it count; the second with an output tensor of its own
    "deep": ["--set=num_hidden_layers=17", "--set=num_key_value_heads=1"],
    "mistral": ["--family=mistral", "--like=tinyllama", "--set=num_attention_heads=8",
                "--set=num_hidden_layers=3", "--set=vocab_size=4096"],
    "qwen2": ["--family=qwen2"], "qwen3": ["--family=qwen3"],
}
RANDOM_SIZES = ["--set=hidden_size=256", "--set=head_dim=64", "--set=intermediate_size=512"]
FAMILY_MIXES = ("Q2_K", "Q3_K_M", "Q4_K_M", "IQ4_XS")
CHOICES = [  # (mix, keys of the format); the keys are llama-quantize's options
    ("Q4_K_M", {"pure": True}),
    ("Q5_K_M", {"output_tensor_type": "q8_0", "token_embedding_type": "q5_0"}),
    ("Q2_K", {"token_embedding_type": "bf16"}),
    ("Q3_K_M", {"tensor_types": ["attn_v=q8_0", r"blk\.[0-2]\.ffn_down=iq4_nl", "ffn=mxfp4"]}),
    ("Q4_0", {"tensor_types": ["attn_(q|k)=f16", "attn_output=tq1_0"], "pure": True}),
]


def write_imatrix(path, source, seed):
    """Sums of squares over many magnitudes, some of them zero, for every matrix of a file."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["made up.txt"])
    writer.add_uint32("imatrix.chunk_count", N_TOKENS // 512)
    writer.add_uint32("imatrix.chunk_size", 512)
    for tensor in gguf.GGUFReader(source).tensors:
        if len(tensor.shape) < 2 or tensor.name == "token_embd.weight":
            continue
        sums = np.exp(random.normal(0, 3, (1, int(tensor.shape[0])))) * N_TOKENS
        sums[:, random.random(sums.shape[1]) < 0.05] = 0
        writer.add_tensor(f"{tensor.name}.in_sum2", sums.astype(np.float32))
        writer.add_tensor(f"{tensor.name}.counts", np.full((1, 1), N_TOKENS, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def their_options(keys):
    words = ["--pure"] if keys.get("pure") else []
    for key in ("output_tensor_type", "token_embedding_type"):
        words += [f"--{key.replace('_', '-')}", keys[key]] if key in keys else []
    for choice in keys.get("tensor_types", []):
        words += ["--tensor-type", choice]
    return words


class Comparison:
    def __init__(self, program, peer, scratch):
        self.program, self.peer, self.scratch = program, peer, scratch
        self.n_files = self.n_tensors = self.n_refused = 0

    def theirs(self, source, imatrix, mix, keys):
        """None when it refuses the choice."""
        path = self.scratch / "theirs.gguf"
        words = [self.peer, *(["--imatrix", imatrix] if imatrix else []), *their_options(keys),
                 source, path, mix, "2"]
        result = subprocess.run([*map(str, words)], capture_output=True, text=True)
        if "this quantization requires an imatrix" in result.stdout + result.stderr:
            return None
        assert result.returncode == 0, f"{words}: {result.stderr[-300:]}"
        return gguf.GGUFReader(path)

    def compare(self, source, imatrix, mix, keys):
        label = f"{source.stem}, {mix}, {keys}, {'imatrix' if imatrix else 'no imatrix'}"
        theirs = self.theirs(source, imatrix, mix, keys)
        if theirs is None:
            self.n_refused += 1
            return
        folder = self.scratch / "ours"
        rtn = {"imatrix": str(imatrix)} if imatrix else {}
        path = self.program.quantise(folder, source, {"type": mix, **keys}, rtn)
        self.compare_files(label, gguf.GGUFReader(path), theirs)
        shutil.rmtree(folder)

    def compare_files(self, label, ours, theirs):
        for key in SHARED_KEYS:
            a, b = (f.get_field(key) and f.get_field(key).contents() for f in (ours, theirs))
            assert a == b, f"{label}: {key} is {a}, llama-quantize's {b}"
        names = [[t.name for t in f.tensors] for f in (ours, theirs)]
        assert names[0] == names[1], f"{label}: other tensors or another order"
        for a, b in zip(ours.tensors, theirs.tensors):
            assert a.tensor_type == b.tensor_type, \
                f"{label}: {a.name} is {a.tensor_type.name}, llama-quantize's {b.tensor_type.name}"
            other = np.flatnonzero(np.asarray(a.data).view(np.uint8).ravel()
                                   != np.asarray(b.data).view(np.uint8).ravel())
            assert not len(other), (f"{label}: {a.name} ({a.tensor_type.name}): {len(other)} of "
                                    f"{a.n_bytes} bytes differ, the first at {other[0]}")
        self.n_files += 1
        self.n_tensors += len(ours.tensors)


def make_source(program, folder, name, model, kind):
    source, imatrix = folder / f"{name}.gguf", folder / f"{name}.imatrix"
    call(program.driver, "write", model, kind, source)
    write_imatrix(imatrix, source, len(name))
    return source, imatrix


def compare_random(comparison, folder, name, mixes):
    model = folder / "random"
    call(sys.executable, ROOT / "tests" / "bench" / "make_model.py", model, *RANDOM_SIZES,
         *RANDOM_MODELS[name])
    source, imatrix = make_source(comparison.program, folder, name, model, "BF16")
    shutil.rmtree(model)
    for mix in mixes:
        comparison.compare(source, None if mix in FLOATS else imatrix, mix, {})


def compare_all(comparison, folder, data):
    program = comparison.program
    mixes = program.gguf_types(folder, BOOKLM)
    stories = data / "models" / "stories260K" / "hf"
    for name, model in (("booklm", BOOKLM), ("stories260K", stories)):
        if not model.exists():
            yield f"{name} skipped: no {model}"
            continue
        source, imatrix = make_source(program, folder, name, model, "F32")
        for mix in mixes:
            comparison.compare(source, None, mix, {})
            if mix not in FLOATS:
                comparison.compare(source, imatrix, mix, {})
        for mix, keys in CHOICES if name == "booklm" else ():
            comparison.compare(source, imatrix, mix, keys)
    for name in RANDOM_MODELS:
        compare_random(comparison, folder, name, mixes if name == "deep" else FAMILY_MIXES)
    yield (f"{comparison.n_files} files of {len(mixes)} mixes, {comparison.n_tensors} tensors equal"
           f" ({comparison.n_refused} refused by llama-quantize)")


def main():
    options = parser().parse_args()
    peer = os.environ.get("RP_LLAMA_QUANTIZE_EXACT")
    if not peer:
        print("skipped: RP_LLAMA_QUANTIZE_EXACT names no llama-quantize")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        comparison = Comparison(Program(options.build), peer, folder)
        print("; ".join(compare_all(comparison, folder, options.data)))


main()
