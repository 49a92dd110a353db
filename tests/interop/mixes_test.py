#!/usr/bin/env python3
"""Types of GGUF tensors beside llama-quantize's, for every mix and family.

usage: mixes_test.py --build DIR --data DIR [--peers]

RP_LLAMA_QUANTIZE names the program; without it the test is skipped. For each model (all values zero)
`rankpress plan --json` must name the tensors of every mix in the order and with the types of
llama-quantize, with an importance matrix and without, and with exceptions by name; and a file that
is really written must have the order, the types and the file type of llama-quantize's.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
    import safetensors.numpy

    from program import parser
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKLM = ROOT / "examples" / "models" / "booklm"
sys.path.insert(0, str(ROOT / "tests" / "formats"))
from make_mix_golden import MIXES, types_by_llama, write_imatrix  # noqa: E402

ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
                 "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
MODELS = {  # family, layers, heads, kv heads, head dim, width, width of the MLP, tied
    "llama": ("llama", 12, 8, 2, 32, 256, 512, False),
    "llama_gqa1": ("llama", 16, 4, 4, 64, 256, 768, True),
    "llama_70b": ("llama", 80, 8, 1, 32, 256, 256, False),
    "llama_odd": ("llama", 9, 6, 2, 32, 192, 416, True),
    "llama_narrow": ("llama", 2, 5, 5, 16, 80, 272, False),
    "mistral": ("mistral", 8, 8, 2, 32, 256, 512, False),
    "qwen2": ("qwen2", 24, 8, 4, 32, 256, 512, True),
    "qwen3": ("qwen3", 10, 8, 4, 64, 256, 512, False),
}
BY_NAME = [
    (["ffn_down=q8_0"], {}),
    ([r"blk\.(0|1|10)\.attn_[qk]=Q5_0", "attn=q4_1", r"BLK\.\d\.FFN_UP=F16"], {}),
    ([r"^blk\.[02468]\.attn_v\.weight$=Q8_0", "[[:digit:]]\\.ffn_down=iq4_nl"], {}),
    (["attn_output=bf16"], {"pure": True}),
    ([], {"output_tensor_type": "q8_0"}),
    (["token_embd=Q5_0"], {}),
    (["token_embd=Q5_0"], {"token_embedding_type": "q4_1", "output_tensor_type": "f16"}),
]


def zeros(*shape):
    return np.zeros(shape, np.float16)


def make_model(folder, name):
    family, n_layers, n_heads, n_kv, head_dim, width, ffn_width, tied = MODELS[name]
    model = folder / name
    model.mkdir()
    for path in BOOKLM.iterdir():
        if path.name.startswith(("tokenizer", "special_tokens")):
            shutil.copy(path, model)
    (model / "config.json").write_text(json.dumps({
        "architectures": [ARCHITECTURES[family]], "model_type": family, "torch_dtype": "float16",
        "vocab_size": 4096, "hidden_size": width, "intermediate_size": ffn_width,
        "num_hidden_layers": n_layers, "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv, "head_dim": head_dim, "hidden_act": "silu",
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": tied, "bos_token_id": 1, "eos_token_id": 2,
        **({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}
           if name == "llama" else {})}))
    tensors = {"model.embed_tokens.weight": zeros(4096, width), "model.norm.weight": zeros(width)}
    if not tied:
        tensors["lm_head.weight"] = zeros(4096, width)
    rows = {"q": n_heads * head_dim, "k": n_kv * head_dim, "v": n_kv * head_dim}
    for layer in range(n_layers):
        below = f"model.layers.{layer}."
        tensors[below + "input_layernorm.weight"] = zeros(width)
        tensors[below + "post_attention_layernorm.weight"] = zeros(width)
        for part, n_rows in rows.items():
            tensors[f"{below}self_attn.{part}_proj.weight"] = zeros(n_rows, width)
            if family == "qwen2":
                tensors[f"{below}self_attn.{part}_proj.bias"] = zeros(n_rows)
            if family == "qwen3" and part != "v":
                tensors[f"{below}self_attn.{part}_norm.weight"] = zeros(head_dim)
        tensors[below + "self_attn.o_proj.weight"] = zeros(width, rows["q"])
        tensors[below + "mlp.gate_proj.weight"] = zeros(ffn_width, width)
        tensors[below + "mlp.up_proj.weight"] = zeros(ffn_width, width)
        tensors[below + "mlp.down_proj.weight"] = zeros(width, ffn_width)
    safetensors.numpy.save_file(tensors, model / "model.safetensors")
    return model


class Program:
    def __init__(self, build, scratch):
        self.rankpress = build / "jobs" / "rankpress"
        self.scratch = scratch
        self.text = scratch / "text.txt"
        self.text.write_text((BOOKLM / "heldout.txt").read_text()[:20_000])

    def job(self, model, formats, recipe, name="out"):
        path = self.scratch / "job.yaml"
        path.write_text(json.dumps({
            "model": str(model), "recipe": recipe,
            "output": {"dir": str(self.scratch / name),
                       "formats": [{"gguf": {"name": f"{i}.gguf", **f}}
                                   for i, f in enumerate(formats)]},
            "calibration": {"text": str(self.text), "num_calibration_samples": 2,
                            "max_seq_length": 64}}))
        return path

    def run(self, *arguments):
        result = subprocess.run([self.rankpress, *arguments], capture_output=True, text=True)
        assert result.returncode == 0, f"{arguments}: {result.stderr}"
        return result.stdout

    def types(self, model, formats, recipe):
        """For each output, (name, type) in the order of the file."""
        found = []
        for i in range(0, len(formats), 8):
            plan = json.loads(self.run("plan", self.job(model, formats[i:i + 8], recipe),
                                       "--json"))
            found += [[(t["name"], t["type"]) for t in output["tensors"]]
                      for output in plan["outputs"]]
        return found

    def write(self, model, formats, recipe, name):
        self.run("run", self.job(model, formats, recipe, name), "--quiet")
        return [self.scratch / name / f"{i}.gguf" for i in range(len(formats))]


def compare(ours, theirs, what):
    theirs = list(theirs.items())
    for got, want in zip(ours, theirs):
        assert got == want, f"{what}: {got}, llama-quantize has {want}"
    assert len(ours) == len(theirs), f"{what}: {len(ours)} tensors, not {len(theirs)}"


def arguments_of(patterns, keys):
    words = [w for p in patterns for w in ("--tensor-type", p)] + ["--pure"] * ("pure" in keys)
    for key in ("output_tensor_type", "token_embedding_type"):
        words += ["--" + key.replace("_", "-"), keys[key]] if key in keys else []
    return words


def fits(model, mix, keys):
    """llama-quantize does not look whether types that are asked for fit."""
    return not any(key.endswith("_type") for key in keys) or MODELS[model][5] % 32 == 0


def check_model(program, quantize, model):
    folder = make_model(program.scratch, model)
    kept = [{"rtn": {"ignore": ["Linear", "lm_head"]}}]
    dense, = program.write(folder, [{"type": "F16"}], kept, f"{model}-dense")
    matrices = [t for t in gguf.GGUFReader(dense).tensors if len(t.shape) > 1]
    imatrix = program.scratch / f"{model}.imatrix.gguf"
    write_imatrix(imatrix, [(t.name, int(t.shape[0]), 1) for t in matrices])
    n_files = 0
    for recipe, arguments in (([{"rtn": {}}], []), ([{"gptq": {}}], ["--imatrix", imatrix])):
        mixes = [mix for mix in MIXES if arguments or mix != "Q2_K_S"]
        found = program.types(folder, [{"type": mix} for mix in mixes], recipe)
        for mix, ours in zip(mixes, found):
            compare(ours, types_by_llama(quantize, dense, mix, arguments), f"{model} {mix}")
        n_files += len(mixes)
    for mix in ("Q4_K_M", "Q3_K_L", "Q8_0"):
        cases = [c for c in BY_NAME if fits(model, mix, c[1])]
        found = program.types(folder, [{"type": mix, "tensor_types": p, **k} for p, k in cases],
                              [{"rtn": {}}])
        for (patterns, keys), ours in zip(cases, found):
            compare(ours, types_by_llama(quantize, dense, mix, arguments_of(patterns, keys)),
                    f"{model} {mix} {patterns} {keys}")
        n_files += len(cases)
    return n_files


def check_files(program, quantize, model):
    """Files that are there: their order and keys, not a dry run's."""
    folder, dense = program.scratch / model, program.scratch / f"{model}-dense" / "0.gguf"
    mixes = ["Q8_0", "Q4_K_M", "BF16"]
    written = program.write(folder, [{"type": mix} for mix in mixes], [{"rtn": {}}],
                            f"{model}-mixes")
    for mix, path in zip(mixes, written):
        theirs = program.scratch / "theirs.gguf"
        subprocess.run([quantize, dense, theirs, mix], check=True, capture_output=True,
                       env={**os.environ, "LD_LIBRARY_PATH": str(quantize.parent)})
        ours, theirs = gguf.GGUFReader(path), gguf.GGUFReader(theirs)
        for a, b in zip(ours.tensors, theirs.tensors):
            assert (a.name, a.tensor_type, list(a.shape), a.data_offset - ours.data_offset) == (
                b.name, b.tensor_type, list(b.shape), b.data_offset - theirs.data_offset), \
                f"{model} {mix}: {a.name}, llama-quantize has {b.name}"
        assert len(ours.tensors) == len(theirs.tensors)
        for key in ("general.file_type", "general.quantization_version"):
            assert ours.get_field(key).contents() == theirs.get_field(key).contents(), (mix, key)
    return len(mixes)


def main():
    options = parser().parse_args()
    quantize = pathlib.Path(os.environ.get("RP_LLAMA_QUANTIZE", "")).resolve()
    if not quantize.is_file():
        print("skipped: RP_LLAMA_QUANTIZE does not name llama-quantize")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as scratch:
        program = Program(options.build.resolve(), pathlib.Path(scratch))
        n_files = sum(check_model(program, quantize, model) for model in MODELS)
        n_files += sum(check_files(program, quantize, model) for model in ("llama", "qwen2"))
    print(f"{n_files} files of {len(MODELS)} models with llama-quantize's types")


main()
