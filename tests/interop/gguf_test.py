#!/usr/bin/env python3
"""GGUF files beside the field's readers.

usage: gguf_test.py --build DIR --data DIR [--peers]

1. The `gguf` package reads our files; its dequantised values are ours bit for bit.
2. Our blocks are those of its quantisers (which follow ggml's reference).
3. llama.cpp (xllamacpp) loads complete files of every family, tokenises a text to the ids of
   tokenizer.json, and gives the log-probabilities of our own forward pass over the same file.
4. Our own tokenizer made from a GGUF file's keys gives those ids too.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

try:
    import gguf
    import numpy as np
    import safetensors.numpy
    import tokenizers
    import xllamacpp

    from llama import log_softmax, quiet
    from program import parser
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKLM = ROOT / "examples" / "models" / "booklm"
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
# Mean and largest difference of a log-probability: ggml rounds activations to fp16 for F16 weights
# and to 8 bits for quantised ones.
BOUNDS = {"F32": (1e-4, 1e-3), "F16": (2e-3, 2e-2), "Q8_0": (2e-2, 2e-1), "Q4_0": (2e-2, 2e-1)}
WORD_ID = 356  # of booklm's vocabulary
PROMPT_LENGTHS = [1, 2, 7, 30, 100]
FAMILIES = {
    "llama": {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                               "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
              "tie_word_embeddings": False},
    "mistral": {"head_dim": 32, "sliding_window": None},
    "qwen2": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                               "original_max_position_embeddings": 32}},
    "qwen3": {"head_dim": 32},
}


def run(driver, *arguments, stdin=None):
    result = subprocess.run([driver, *map(str, arguments)], input=stdin, capture_output=True)
    if result.returncode != 0:
        sys.exit(f"{arguments}: {result.stderr.decode()}")
    return result.stdout


def hf_name(name):
    """The Hugging Face name of a GGUF tensor."""
    outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    inner = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
             "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    stem, kind = name.rsplit(".", 1)
    if stem in outer:
        return f"{outer[stem]}.{kind}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{inner[part]}.{kind}"


def unpermuted(rows, n_heads):
    """Inverse of the converter's reshape(H, 2, D / 2).swapaxes(1, 2)."""
    return (rows.reshape(n_heads, rows.shape[0] // n_heads // 2, 2, *rows.shape[1:])
            .swapaxes(1, 2).reshape(rows.shape))


def check_values(driver, path):
    """Every tensor of a booklm file: the package's values and ours."""
    for tensor in gguf.GGUFReader(path).tensors:
        theirs = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            theirs = unpermuted(theirs, 8 if ".attn_q." in tensor.name else 4)
        ours = np.frombuffer(run(driver, "values", path, hf_name(tensor.name)), np.float32)
        assert np.array_equal(ours.view(np.uint32), theirs.ravel().view(np.uint32)), \
            f"{path.name}: {tensor.name}: other values"


def rounded_in_fp32(x, kind):
    """Q4_0 and Q5_0 codes by the reference's fp32 arithmetic, without fused multiply-add."""
    half = np.float32(8 if kind == "Q4_0" else 16)
    blocks = x.reshape(-1, 32)
    top = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    d = top / -half
    with np.errstate(divide="ignore"):
        inverse = np.where(d == 0, np.float32(0), np.float32(1) / d)
    codes = np.trunc(blocks * inverse + (half + np.float32(0.5))).astype(np.int64)
    return np.minimum(codes, int(2 * half) - 1)


def codes_of(data, kind):
    """Codes [blocks, 32] of packed Q4_0 or Q5_0 blocks."""
    blocks = data.reshape(-1, 18 if kind == "Q4_0" else 22)
    nibbles = blocks[:, -16:]
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.int64)
    if kind == "Q5_0":
        high = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little")
        codes += high.astype(np.int64) << 4
    return codes


def check_blocks(driver, folder, kind):
    """Our blocks from F32 weights against the package's quantiser. The package rounds Q4_0 and Q5_0
    as if with fused multiply-add, which can differ in ties: there the reference's own fp32
    arithmetic decides."""
    dense = {t.name: t for t in gguf.GGUFReader(folder / "F32.gguf").tensors}
    n_blocks = n_other = 0
    for tensor in gguf.GGUFReader(folder / f"{kind}.gguf").tensors:
        if tensor.tensor_type.name != kind:
            continue
        x = np.array(dense[tensor.name].data)
        theirs = gguf.quants.quantize(x, tensor.tensor_type).reshape(-1)
        ours = np.array(tensor.data).reshape(-1)
        n_blocks += x.size // 32
        if np.array_equal(ours, theirs):
            continue
        assert kind in ("Q4_0", "Q5_0"), f"{kind}: {tensor.name}: other bytes"
        size = 18 if kind == "Q4_0" else 22
        ours, theirs = ours.reshape(-1, size), theirs.reshape(-1, size)
        assert np.array_equal(ours[:, :2], theirs[:, :2]), f"{kind}: {tensor.name}: other scales"
        n_other += int((ours != theirs).any(1).sum())
        assert np.array_equal(codes_of(ours, kind), rounded_in_fp32(x, kind)), \
            f"{kind}: {tensor.name}: other codes"
    assert n_other <= n_blocks // 1000
    return n_blocks


class LlamaCpp:
    def __init__(self, path):
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 512
        params.n_parallel = 1
        params.warmup = False
        params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)

    def tokenize(self, text):
        request = urllib.request.Request(
            self.server.listening_address + "/tokenize",
            json.dumps({"content": text, "add_special": True, "parse_special": True}).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["tokens"]

    def log_probs(self, ids, n_vocab):
        """Of the token after ids; tokens that it leaves out are NaN. The answer is steered to an
        ordinary word: it has no probabilities for an end of text or half a character."""
        answer = self.server.handle_completions({"prompt": ids, "n_predict": 1, "temperature": 0,
                                                 "n_probs": n_vocab, "cache_prompt": False,
                                                 "logit_bias": [[WORD_ID, 1000]]})
        if isinstance(answer, str):
            answer = json.loads(answer)
        out = np.full(n_vocab, np.nan)
        for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            out[entry["id"]] = entry["logprob"]
        return out


def check_log_probs(driver, llama, path, ids, bounds):
    ours = np.frombuffer(run(driver, "logits", path, stdin=np.array(ids, np.int32).tobytes()),
                         np.float32).reshape(len(ids), -1)
    worst_mean = worst = 0.0
    for n in PROMPT_LENGTHS:
        want = log_softmax(ours[n - 1])
        found = llama.log_probs(ids[:n], ours.shape[1])
        likely = ~np.isnan(found) & (want > -12)
        assert likely.sum() >= min(100, (want > -12).sum() * 0.9), f"{path}: {n}: no probabilities"
        error = np.abs(found - want)[likely]
        worst_mean, worst = max(worst_mean, error.mean()), max(worst, error.max())
    assert worst_mean <= bounds[0] and worst <= bounds[1], \
        f"{path.name}: log-probabilities differ by {worst_mean:.2g} (mean), {worst:.2g} (largest)"
    return worst_mean


def sample_texts(data):
    texts = ["", "a", " two  spaces ", "line\nline\n\n\n\tx", "Zürich, 漢字, 😀! été",
             "<s>not special</s>", "12345 67.89 $%&/()=?"]
    for name in ("books-heldout.txt", "wikitext-2-valid.txt"):
        path = data / "text" / name
        if path.exists():
            text = path.read_text()
            texts += [text[i:i + 2000] for i in range(0, min(len(text), 200_000), 50_000)]
    return texts + [(BOOKLM / "heldout.txt").read_text()[:20_000]]


def check_tokens(driver, llama, path, tokenizer, texts):
    for text in texts:
        want = tokenizer.encode(text).ids
        ours = np.frombuffer(run(driver, "ids", path, stdin=text.encode()), np.int32).tolist()
        assert ours == want, f"{path.name}: our ids from the GGUF keys differ: {text[:60]!r}"
        if text:  # llama.cpp gives BOS alone too, but its server answers nothing for ""
            assert llama.tokenize(text) == want, f"{path.name}: llama.cpp's ids: {text[:60]!r}"


def make_model(model, *arguments):
    subprocess.run([sys.executable, ROOT / "tests" / "bench" / "make_model.py", model, *arguments],
                   check=True, stdout=subprocess.DEVNULL)


def make_family(folder, family, *arguments):
    """Random weights, those of attention so large that positions and heads matter."""
    model = folder / family
    sizes = [f"--set={k}={v}" for k, v in FAMILIES[family].items() if type(v) is int]
    make_model(model, "--family", family, "--dtype", "F32", "--set=num_hidden_layers=2", *sizes,
               *arguments)
    config = json.loads((model / "config.json").read_text())
    config.update(FAMILIES[family])
    (model / "config.json").write_text(json.dumps(config))
    tensors = safetensors.numpy.load_file(model / "model.safetensors")
    for name, factor in (("q_proj.weight", 10), ("k_proj.weight", 10), ("v_proj.weight", 20),
                         ("o_proj.weight", 20), ("embed_tokens.weight", 10)):
        for key in tensors:
            if key.endswith(name):
                tensors[key] = tensors[key] * np.float32(factor)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = np.ascontiguousarray(
            tensors["model.embed_tokens.weight"][::-1])
    safetensors.numpy.save_file(tensors, model / "model.safetensors")
    return model


def byte_level_tokenizers(data):
    """GPT-2's pieces under the pre-tokenizers of llama.cpp's names."""
    if not (data / "tokenizers" / "gpt2" / "vocab.json").exists():
        return
    contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
    ending = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    steps = tokenizers.pre_tokenizers
    plain = steps.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = steps.ByteLevel(add_prefix_space=False)

    def split(regex):
        return steps.Sequence([steps.Split(tokenizers.Regex(regex), "isolated"), plain])

    for name, pre in (("gpt-2", gpt2),
                      ("smollm", steps.Sequence([steps.Digits(individual_digits=True), gpt2])),
                      ("llama-bpe", split(contractions + "\\p{N}{1,3}" + ending)),
                      ("qwen2", split(contractions + "\\p{N}" + ending))):
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(
            str(data / "tokenizers" / "gpt2" / "vocab.json"),
            str(data / "tokenizers" / "gpt2" / "merges.txt"), ignore_merges=name == "llama-bpe"))
        tokenizer.pre_tokenizer = pre
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        tokenizer.add_special_tokens(["<|endoftext|>"])
        if name == "llama-bpe":
            tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
                single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 50256)])
        yield name, tokenizer


def check_byte_level(driver, folder, data, texts):
    names = []
    for name, tokenizer in byte_level_tokenizers(data):
        source, path = folder / "tokenizer", folder / f"{name}.gguf"
        source.mkdir(exist_ok=True)
        tokenizer.save(str(source / "tokenizer.json"))
        (source / "tokenizer_config.json").write_text('{"bos_token": "<|endoftext|>"}')
        # more rows than tokens: the list of tokens is padded
        make_model(folder / name, "--tokenizer", source, "--set=vocab_size=50304",
                   "--set=num_hidden_layers=1")
        run(driver, "write", folder / name, "F16", path)
        reader = gguf.GGUFReader(path)
        assert reader.get_field("tokenizer.ggml.pre").contents() == name
        check_tokens(driver, LlamaCpp(path), path, tokenizer, texts)
        shutil.rmtree(folder / name)
        names.append(name)
    return names


def main():
    options = parser().parse_args()
    driver = options.build / "tests" / "interop" / "gguf_driver"
    tokenizer = tokenizers.Tokenizer.from_file(str(BOOKLM / "tokenizer.json"))
    texts = sample_texts(options.data)
    ids = tokenizer.encode((BOOKLM / "heldout.txt").read_text()[:2000]).ids[:max(PROMPT_LENGTHS)]
    facts = []
    with tempfile.TemporaryDirectory() as scratch, quiet():
        folder = pathlib.Path(scratch)
        for kind in TYPES:
            path = folder / f"{kind}.gguf"
            run(driver, "write", BOOKLM, kind, path)
            check_values(driver, path)
        n_blocks = sum(check_blocks(driver, folder, kind) for kind in TYPES[3:])
        facts.append(f"{n_blocks} blocks equal")
        for kind, bounds in BOUNDS.items():
            llama = LlamaCpp(folder / f"{kind}.gguf")
            mean = check_log_probs(driver, llama, folder / f"{kind}.gguf", ids, bounds)
            facts.append(f"{kind} {mean:.1e}")
            if kind == "F16":
                check_tokens(driver, llama, folder / f"{kind}.gguf", tokenizer, texts)
            del llama
        for family in FAMILIES:
            path = folder / f"{family}.gguf"
            model = make_family(folder, family)
            run(driver, "write", model, "F32", path)
            mean = check_log_probs(driver, LlamaCpp(path), path, ids, BOUNDS["F32"])
            facts.append(f"{family} {mean:.1e}")
            shutil.rmtree(model)
        facts += check_byte_level(driver, folder, options.data, texts)
    print("gguf: " + ", ".join(facts))


if __name__ == "__main__":
    main()
