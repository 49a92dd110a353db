#!/usr/bin/env python3
"""GGUF files as models of every subcommand, beside transformers and llama.cpp.

usage: gguf_input_test.py --build DIR --data DIR [--peers]

1. Hugging Face -> GGUF (whole, split) -> Hugging Face: transformers loads the last folder, gives the
   first one's logits and ids; a quantised file's folder gives what our forward pass gives.
2. GGUF -> GGUF keeps keys and unchanged tensors; split files load in llama.cpp.
3. Ids of llama-style and byte-level tokenizers on many lines: tokenizer.json, llama.cpp's of the
   GGUF, ours of the GGUF, transformers' of the folder made from the GGUF.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
    import tokenizers
    import torch
    import transformers
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

import gguf_test
from gguf_test import BOOKLM, LlamaCpp, make_family, make_model, quiet, run
from program import parser


def rankpress(build, model, out, formats, *overrides):
    """Runs a conversion; returns its folder."""
    job = out.with_suffix(".yaml")
    job.write_text(f"model: {model}\noutput: {{dir: {out}, formats: {formats}}}\n")
    result = subprocess.run([build / "jobs" / "rankpress", "run", job, *overrides],
                            capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return out


def logits_of_folder(folder, ids):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def logits_of_gguf(driver, path, ids):
    raw = run(driver, "logits", path, stdin=np.array(ids, np.int32).tobytes())
    return np.frombuffer(raw, np.float32).reshape(len(ids), -1)


def worst(found, want):
    assert found.shape == want.shape
    return float(np.abs(found - want).max() / np.abs(want).max())


def same_tensors(a, b, names):
    for name in names:
        assert a[name].tensor_type == b[name].tensor_type, name
        assert np.array_equal(a[name].data, b[name].data), f"{name}: other bytes"


def tensors_of(*paths):
    return {t.name: t for path in paths for t in gguf.GGUFReader(path).tensors}


def fields_of(path):
    """Keys and values, without those that are the reader's or of the tensors' place."""
    own = ("GGUF.", "split.", "general.file_type", "general.quantization_version")
    return {k: v.contents() for k, v in gguf.GGUFReader(path).fields.items()
            if not k.startswith(own)}


def check_family(options, folder, family, ids):
    """Round trips of a random model; returns the worst relative differences of logits."""
    driver, build = options.driver, options.build
    model = make_family(folder, family)
    files = rankpress(build, model, folder / "a", "[{gguf: F32}, {gguf: Q8_0}, "
                      "{gguf: {type: F32, name: split.gguf, max_shard_size: 300kB}}]")
    whole = files / "model-F32.gguf"
    parts = sorted(files.glob("split-*.gguf"))
    assert len(parts) > 2 and parts[0].name.endswith(f"-of-{len(parts):05d}.gguf")
    same_tensors(tensors_of(*parts), tensors_of(whole), tensors_of(whole))
    back = rankpress(build, parts[1], folder / "b", "[{safetensors: {dtype: F32}}]")
    want = logits_of_folder(model, ids)
    errors = [worst(logits_of_folder(back / "safetensors", ids), want),
              worst(logits_of_gguf(driver, parts[0], ids), want)]
    quantised = files / "model-Q8_0.gguf"
    again = rankpress(build, quantised, folder / "c", "[{gguf: F16}, {gguf: Q8_0}, "
                      "{safetensors: {dtype: F32}}]")
    for name in ("model-F16.gguf", "model-Q8_0.gguf"):
        assert fields_of(again / name) == fields_of(quantised)
    before, after = tensors_of(quantised), tensors_of(again / "model-Q8_0.gguf")
    assert list(before) == list(after)
    same_tensors(before, after, before)
    errors.append(worst(logits_of_folder(again / "safetensors", ids),
                        logits_of_gguf(driver, quantised, ids)))
    assert max(errors) < 2e-5, f"{family}: logits differ by {errors}"
    gguf_test.check_log_probs(driver, LlamaCpp(parts[0]), parts[0], ids, gguf_test.BOUNDS["F32"])
    for name in ("a", "b", "c", family):
        subprocess.run(["rm", "-rf", folder / name], check=True)
    return max(errors)


CARD = """---
license: [apache-2.0, mit]
license_name: both
license_link: https://example.org/licence
language:
- en
- no
tags: [books, "old books"]
pipeline_tag: text-generation
base_model: acme-corp/tiny-books
datasets:
- wiki/text-two
- https://example.org/texts
model_creator: Somebody
---
# A model
"""


def check_card(options, folder):
    """general.* keys of a folder's model card and generation_config.json, as the converter's own
    package reads them."""
    source = folder / "acme-Tiny-books"
    make_model(source, "--set=num_hidden_layers=1")
    (source / "README.md").write_text(CARD)
    (source / "generation_config.json").write_text(json.dumps(
        {"temperature": 0.5, "top_k": 20, "top_p": 0.875, "repetition_penalty": 1.0625}))
    path = rankpress(options.build, source, folder / "card", "[{gguf: F16}]") / "model-F16.gguf"
    elems = sum(int(t.n_elements) for t in tensors_of(path).values())
    want = gguf.Metadata.load(None, source, None, elems)
    want.size_label = want.size_label or gguf.size_label(elems, 0, 0, 0)
    writer = gguf.GGUFWriter(folder / "card.gguf", "llama")
    want.set_gguf_meta_model(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    keys = {k: v for k, v in fields_of(folder / "card.gguf").items() if k.startswith("general.")}
    found = fields_of(path)
    assert len(keys) > 18
    for key, value in keys.items():
        assert found.get(key) == value, f"{key}: {found.get(key)!r}, the package has {value!r}"


def with_alignment(source, path, alignment):
    """The same model by the package's writer, its tensors on other boundaries."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.get_field("general.architecture").contents())
    writer.add_custom_alignment(alignment)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            is_array = field.types[0] == gguf.GGUFValueType.ARRAY
            writer.add_key_value(key, field.contents(), field.types[0],
                                 field.types[-1] if is_array else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_alignment(options, folder):
    """Other boundaries in, 32 out, the same values."""
    plain = rankpress(options.build, BOOKLM, folder / "al", "[{gguf: Q4_K_M}]") / "model-Q4_K_M.gguf"
    wide = folder / "wide.gguf"
    with_alignment(plain, wide, 512)
    assert all(t.data_offset % 512 == 0 for t in gguf.GGUFReader(wide).tensors)
    again = rankpress(options.build, wide, folder / "al2", "[{gguf: Q4_K_M}]") / "model-Q4_K_M.gguf"
    same_tensors(tensors_of(plain), tensors_of(again), tensors_of(plain))
    assert fields_of(again) == fields_of(plain)


def check_mix(options, folder, ids):
    """A file of K-quants: copied where nothing changes, decoded for transformers, rounded again only
    on demand."""
    made = rankpress(options.build, BOOKLM, folder / "mix", "[{gguf: Q4_K_M}]") / "model-Q4_K_M.gguf"
    again = rankpress(options.build, made, folder / "mix2", "[{gguf: Q4_K_M}, {gguf: F32}, "
                      "{safetensors: {dtype: F32}}]")
    before, after = tensors_of(made), tensors_of(again / "model-Q4_K_M.gguf")
    assert {t.tensor_type.name for t in before.values()} == {"F32", "Q4_K", "Q6_K"}
    same_tensors(before, after, before)
    want = logits_of_gguf(options.driver, made, ids)
    error = worst(logits_of_folder(again / "safetensors", ids), want)
    assert error < 2e-5, f"Q4_K_M as safetensors: logits differ by {error}"
    assert np.array_equal(logits_of_gguf(options.driver, again / "model-F32.gguf", ids), want)
    gguf_test.check_log_probs(options.driver, LlamaCpp(again / "model-F32.gguf"), made, ids,
                              gguf_test.BOUNDS["F32"])
    job = folder / "mix3.yaml"
    job.write_text(f"model: {made}\noutput: {{dir: {folder / 'mix3'}, formats: [{{gguf: Q8_0}}]}}\n")
    refused = subprocess.run([options.build / "jobs" / "rankpress", "run", job], capture_output=True,
                             text=True)
    assert refused.returncode == 78 and "allow_requantize" in refused.stderr, refused.stderr
    rankpress(options.build, made, folder / "mix3", "[{gguf: Q8_0}]", "allow_requantize=true")


def lines_of(data):
    lines = gguf_test.sample_texts(data)
    for path in sorted((data / "text").glob("*.txt")):
        text = path.read_text()
        lines += [line for line in text.split("\n") if line][:600]
    lines += (BOOKLM / "heldout.txt").read_text().split("\n")[:600]
    return list(dict.fromkeys(line for line in lines if line))


def check_tokenizer(options, folder, name, source, vocab_size, lines):
    model, out = folder / name, folder / f"{name}-out"
    make_model(model, "--tokenizer", source, f"--set=vocab_size={vocab_size}",
               "--set=num_hidden_layers=1")
    path = rankpress(options.build, model, out, "[{gguf: F16}]") / "model-F16.gguf"
    back = rankpress(options.build, path, folder / f"{name}-back", "[safetensors]")
    original = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    again = transformers.AutoTokenizer.from_pretrained(back / "safetensors")
    llama = LlamaCpp(path)
    wanted = [original.encode(line).ids for line in lines]
    for line, want in zip(lines, wanted):
        assert llama.tokenize(line) == want, f"{name}: llama.cpp's ids: {line[:60]!r}"
        assert again(line)["input_ids"] == want, f"{name}: transformers' ids: {line[:60]!r}"
    for text in gguf_test.sample_texts(options.data):
        ours = np.frombuffer(run(options.driver, "ids", path, stdin=text.encode()), np.int32)
        assert ours.tolist() == original.encode(text).ids, f"{name}: our ids: {text[:60]!r}"
    decoded = again.decode(wanted[0])
    assert decoded == original.decode(wanted[0], skip_special_tokens=False), f"{name}: {decoded!r}"


def check_template(options, folder):
    """A chat template and special tokens through GGUF and back."""
    source = folder / "chat"
    template = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    make_model(source, "--set=num_hidden_layers=1")
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["chat_template"] = template
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    path = rankpress(options.build, source, folder / "d", "[{gguf: F16}]") / "model-F16.gguf"
    back = rankpress(options.build, path, folder / "e", "[safetensors]") / "safetensors"
    before = transformers.AutoTokenizer.from_pretrained(source)
    after = transformers.AutoTokenizer.from_pretrained(back)
    chat = [{"role": "user", "content": "Hello there"}]
    assert after.apply_chat_template(chat, tokenize=False) == \
        before.apply_chat_template(chat, tokenize=False)
    assert (after.bos_token, after.eos_token, after.unk_token) == \
        (before.bos_token, before.eos_token, before.unk_token)


def main():
    options = parser().parse_args()
    options.driver = options.build / "tests" / "interop" / "gguf_driver"
    tokenizer = tokenizers.Tokenizer.from_file(str(BOOKLM / "tokenizer.json"))
    ids = tokenizer.encode((BOOKLM / "heldout.txt").read_text()[:2000]).ids[:100]
    lines = lines_of(options.data)
    facts = []
    with tempfile.TemporaryDirectory() as scratch, quiet():
        folder = pathlib.Path(scratch)
        for family in gguf_test.FAMILIES:
            facts.append(f"{family} {check_family(options, folder, family, ids):.0e}")
        check_template(options, folder)
        check_card(options, folder)
        check_alignment(options, folder)
        check_mix(options, folder, ids)
        check_tokenizer(options, folder, "booklm", BOOKLM, 4096, lines)
        phi = options.data / "tokenizers" / "phi-3-mini"
        if phi.exists():
            check_tokenizer(options, folder, "phi-3-mini", phi, 32064, lines)
        for name, made in gguf_test.byte_level_tokenizers(options.data):
            source = folder / f"{name}-tokenizer"
            source.mkdir()
            made.save(str(source / "tokenizer.json"))
            (source / "tokenizer_config.json").write_text('{"bos_token": "<|endoftext|>"}')
            check_tokenizer(options, folder, name, source, 50304, lines)
            facts.append(name)
    print(f"gguf as input: {len(lines)} lines, " + ", ".join(facts))


main()
