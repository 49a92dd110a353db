#!/usr/bin/env python3
"""Every GGUF type and mix that `rankpress run` writes, in llama.cpp: it loads the file, and its
logits at every position of some windows agree with our own forward pass over the same file.

usage: llama_cpp_test.py --build DIR --data DIR [--peers]

llama.cpp rounds activations to fp16 beside F16 weights, to bf16 beside BF16 and to 8 bits beside
quantised ones. So each quantised file is also compared as what it decodes to, in an F32 file, where
nothing is rounded: that shows that both read the same values.
"""
import pathlib
import shutil
import sys
import tempfile

try:
    import numpy as np
    import tokenizers

    import llama
    from program import Program, call, parser
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_KL = {"F32": 1e-4, "F16": 1e-4, "BF16": 1e-4}
MAX_KL_QUANTISED = 1e-3
MAX_KL_TERNARY = 1e-2  # of a model that three values ruin, so that its logits magnify any rounding
EXACT = ("F32", "F16")  # types whose most likely token is compared, too
MIN_TOP1 = 0.999
TIE = 1e-3  # nats between the two most likely tokens
N_WINDOWS = 2


class Model:
    def __init__(self, name, folder, text):
        self.name, self.folder, self.text = name, folder, text
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids = tokenizer.encode(text.read_text(encoding="utf-8")[:40_000]).ids
        self.windows = [ids[i:i + llama.N_CTX]
                        for i in range(0, N_WINDOWS * llama.N_CTX, llama.N_CTX)]


class Distance:
    """Of llama.cpp's distribution from ours, over positions."""

    def __init__(self, ours, theirs):
        ours, theirs = llama.log_softmax(ours), llama.log_softmax(theirs)
        second, first = np.partition(ours, -2)[:, -2:].T
        apart = first - second > TIE
        agree = ours.argmax(-1) == theirs.argmax(-1)
        self.kl = float((np.exp(ours) * (ours - theirs)).sum(-1).mean())
        self.top1 = float(agree[apart].mean())


def distance(driver, path, windows):
    ours, theirs = [], []
    with llama.Model(path) as model:
        for ids in windows:
            theirs.append(model(ids))
            raw = call(driver, "logits", path, stdin=np.array(ids, np.int32).tobytes())
            ours.append(np.frombuffer(raw, np.float32).reshape(len(ids), -1))
    return Distance(np.concatenate(ours), np.concatenate(theirs))


def check(driver, path, model, kind, label):
    d = distance(driver, path, model.windows)
    limit = MAX_KL.get(kind, MAX_KL_TERNARY if kind.startswith("TQ") else MAX_KL_QUANTISED)
    assert d.kl <= limit, f"{model.name}, {label}: mean KL {d.kl:.2g} of {limit:.2g}"
    assert kind not in EXACT or d.top1 >= MIN_TOP1, f"{model.name}, {label}: top-1 {d.top1:.4f}"
    return d


def check_type(program, folder, model, kind):
    """KL of the file and of its decoded values."""
    path = program.quantise(
        folder, model.folder, {"type": kind}, {"imatrix": "calibration"},
        calibration={"text": str(model.text), "num_calibration_samples": 8, "max_seq_length": 256})
    kl = check(program.driver, path, model, kind, kind).kl
    if kind in MAX_KL:
        return kl, 0.0
    decoded = folder / "decoded.gguf"
    call(program.driver, "write", model.folder, "F32", decoded, path)
    return kl, check(program.driver, decoded, model, "F32", f"decoded {kind}").kl


def check_model(program, scratch, model):
    found, worst_decoded = {}, 0.0
    kinds = program.gguf_types(scratch, model.folder)
    for kind in kinds:
        folder = scratch / f"{model.name}-{kind}"
        kl, decoded = check_type(program, folder, model, kind)
        found[kind] = kl
        worst_decoded = max(worst_decoded, decoded)
        shutil.rmtree(folder)
    listed = ", ".join(f"{kind} {kl:.1e}" for kind, kl in found.items())
    return f"{model.name}: mean KL {listed}; of decoded values up to {worst_decoded:.1e}"


def main():
    options = parser().parse_args()
    program = Program(options.build)
    booklm = ROOT / "examples" / "models" / "booklm"
    places = [("booklm", booklm, booklm / "heldout.txt"),
              ("stories260K", options.data / "models" / "stories260K" / "hf",
               options.data / "text" / "tinystories-train-head.txt")]
    facts = []
    with tempfile.TemporaryDirectory() as scratch, llama.quiet():
        for name, folder, text in places:
            if not (folder.exists() and text.exists()):
                facts.append(f"{name} skipped: no {folder} or {text}")
                continue
            facts.append(check_model(program, pathlib.Path(scratch), Model(name, folder, text)))
    print("; ".join(facts))


main()
