#!/usr/bin/env python3
"""Compares ids and decoded text with the `tokenizers` package, string by string.

usage: tokenizer_test.py --build DIR --data DIR [--peers] [--n STRINGS] [--only NAME]

The strings hold every character that Unicode 14 assigns at least once, mixtures that tokenizers
trip over (spaces, digits, apostrophes, marks, case folding, added tokens), and slices of real
texts. The tokenizers are the files in DIR/tokenizers and DIR/models, the shipped model's, and
files made here: trained on real text, with the patterns of llama-3, qwen and deepseek, with added
tokens of all 32 kinds, and with the normalizers and pre-tokenizers that the others do not have.
"""
import concurrent.futures
import itertools
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

try:
    from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                            pre_tokenizers, processors, trainers)
except ImportError:
    print("skipped: the tokenizers package is not installed")
    sys.exit(77)

from program import parser

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "examples" / "models" / "booklm"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
ENDING = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + ENDING
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + ENDING
DEEPSEEK3 = [
    r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]


# ---- tokenizers made here ----

def added_tokens():
    """One of each combination of flags; contents that meet words, blanks and normalizers."""
    shapes = ["<|k{}|>", "word{}", "Éclair{}", " lead{}", "trail{} ", "\nline{}", "a{}", "ﬁ{}b"]
    flags = itertools.product([False, True], repeat=5)
    return [AddedToken(shapes[i % len(shapes)].format("xyzuvwpqrs"[i // 8] * 2), single_word=w,
                       lstrip=left, rstrip=right, normalized=norm, special=special)
            for i, (w, left, right, norm, special) in enumerate(flags)]


def train(tokenizer, texts, size, initial=(), **options):
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(initial),
                                  show_progress=False, **options)
    tokenizer.train_from_iterator((line for text in texts for line in text.splitlines(True)),
                                  trainer)
    tokenizer.add_tokens(added_tokens())
    return tokenizer


def byte_level(texts, patterns, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, last])
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, texts, 3000, pre_tokenizers.ByteLevel.alphabet(),
                 special_tokens=["<|begin|>", "<|end|>"])


def make_llama3(texts):
    tokenizer = byte_level(texts, [LLAMA3], ignore_merges=True)
    begin = ("<|begin|>", tokenizer.token_to_id("<|begin|>"))
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])])
    return tokenizer


def make_qwen(texts):
    tokenizer = byte_level(texts, [QWEN2])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def make_deepseek(texts):
    return byte_level(texts, DEEPSEEK3)


def make_metaspace(texts):
    """Pre-tokenizer Metaspace, unknown characters fused, whole normalizer list."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(),
        normalizers.Replace(Regex(r"\s{2,}"), " "), normalizers.Strip(left=True, right=False)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer = train(tokenizer, texts, 2000, special_tokens=["<unk>", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def make_words(texts):
    """Unknown characters kept apart, words split by class, no decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend(" ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"),
        pre_tokenizers.Split("e", "merged_with_next"), pre_tokenizers.Whitespace(),
        pre_tokenizers.Split(Regex(r"[aeiou]\w"), "contiguous", invert=True)])
    return train(tokenizer, texts, 2000, special_tokens=["<unk>"])


def make_fallback(texts):
    """Byte fallback with tokens for some bytes only; a space before the first piece only."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    train(tokenizer, texts, 2000, special_tokens=["<unk>"])
    file = json.loads(tokenizer.to_str())
    file["model"]["byte_fallback"] = True
    for byte in range(0xe8):
        file["model"]["vocab"][f"<0x{byte:02X}>"] = 5000 + byte
    return Tokenizer.from_str(json.dumps(file))


def make_normal_bytes(texts):
    """Byte-level coding by the normalizer, then a split that removes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.ByteLevel()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("Ġ+|Ċ"), "removed")
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, texts, 2000, pre_tokenizers.ByteLevel.alphabet())


def make_prefix_space(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel()])
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, texts, 2000, pre_tokenizers.ByteLevel.alphabet())


def open_gpt2(folder):
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"),
                                               str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def all_tokenizers(data, texts, scratch):
    """(name, folder, reference), one after the other."""
    for make in (make_llama3, make_qwen, make_deepseek, make_metaspace, make_words,
                 make_fallback, make_normal_bytes, make_prefix_space):
        name = make.__name__.removeprefix("make_")
        folder = scratch / name
        folder.mkdir()
        make(texts).save(str(folder / "tokenizer.json"))
        yield name, folder, Tokenizer.from_file(str(folder / "tokenizer.json"))
    yield "booklm", SHIPPED, Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    folders = [data / "models" / "stories260K" / "hf", *sorted((data / "tokenizers").glob("*"))]
    for folder in folders:
        if folder.name == "t5-small":
            continue  # Unigram: refused
        if (folder / "tokenizer.json").exists():
            yield folder.name, folder, Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif (folder / "vocab.json").exists():
            yield folder.name, folder, open_gpt2(folder)


# ---- strings ----

def assigned_characters():
    source = unicodedata
    if unicodedata.unidata_version != "14.0.0":
        source = unicodedata.ucd_3_2_0  # a subset for sure
    return [chr(c) for c in range(0x110000) if source.category(chr(c)) not in ("Cn", "Cs", "Co")]


def added_contents(data):
    paths = [SHIPPED / "tokenizer.json", *(data / "tokenizers").glob("*/tokenizer.json")]
    files = [json.loads(p.read_text(encoding="utf-8")) for p in paths]
    found = {t["content"] for file in files for t in file["added_tokens"]}
    blanks = sorted(c for c in found if not c.strip())
    return ([t.content for t in added_tokens()] + blanks
            + sorted(c for c in found if c.strip() and "extra_id" not in c))


def random_strings(rng, count, characters, contents):
    """Short mixtures of what matters to some stage."""
    marks = [c for c in characters if unicodedata.combining(c)]
    digits = [c for c in characters if unicodedata.category(c).startswith("N")]
    blanks = [c for c in characters if c.isspace()] + ["\u180e", "\u200b", "\u200c", "\u200d", "\0"]
    pools = [
        list("  \n\n\r\t") + ["  ", "   ", "\r\n", "\u00a0", "\u3000", "\u0085"], blanks,
        list("0123456789") + ["12", "2024", "½", "²", "٣"], digits,
        list("''''’") + ["'s", "'S", "'ſ", "'ll", "'LL", "'re", "'Ve", "'d", "'t", "n't"],
        list("abcdefghijklmnopqrstuvwxyz"), list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ["the", " the", "and", "Hello", " world", "ing", "naïve", "straße", "İstanbul", "Å"],
        list(".,;:!?-_/\\()[]{}<>@#$%^&*+=|~`\""), ["...", "--", "://", "</", "<0x41>", "▁", "Ġ"],
        list("漢字仮名交じり文中文测试"), list("한국어조선말"), ["한", "각", "\u1100\u1161\u11a8"],
        ["😀", "👩‍👩‍👧", "🇩🇪", "👍🏽", "❤️"], marks, ["e\u0301", "a\u0323\u0307", "ﬁ", "①", "Ⅷ"],
        characters, contents, contents]
    for _ in range(count):
        mixture = rng.choices(pools, k=rng.randint(1, 4))
        yield "".join(rng.choice(rng.choice(mixture)) for _ in range(rng.randint(1, 16)))


def covering_strings(rng, characters):
    order = rng.sample(characters, len(characters))
    at = 0
    while at < len(order):
        n = rng.randint(3, 9)
        yield "".join(order[at:at + n])
        at += n


def real_strings(rng, count, texts):
    for _ in range(count):
        text = rng.choice(texts)
        start = rng.randrange(len(text))
        yield text[start:start + min(rng.randint(1, 120), rng.randint(1, 400))]


def make_strings(count, texts, data):
    rng = random.Random(20240229)
    characters = assigned_characters()
    strings = ["", " ", "\n", "  ", "\0"]
    strings += itertools.islice(covering_strings(rng, characters), count // 2)
    strings += real_strings(rng, count // 5, texts)
    strings += random_strings(rng, count - len(strings), characters, added_contents(data))
    return strings


# ---- comparing ----

def ask_driver(driver, folder, strings):
    request = b"".join(struct.pack("<I", len(b)) + b for b in (s.encode() for s in strings))
    return subprocess.run([str(driver), str(folder)], input=request, stdout=subprocess.PIPE,
                          check=True).stdout


def parse_answer(answer, count):
    """For each string: ids, ids with special tokens, text, text without special tokens."""
    at = 0
    for _ in range(count):
        items = []
        for is_text in (False, False, True, True):
            n, = struct.unpack_from("<I", answer, at)
            size = n if is_text else 4 * n
            chunk = answer[at + 4:at + 4 + size]
            items.append(chunk.decode() if is_text else list(struct.unpack(f"<{n}i", chunk)))
            at += 4 + size
        yield tuple(items)


def until_nul(text):
    return text.split("\0", 1)[0]


def ask_reference(tokenizer, strings):
    plain = [e.ids for e in tokenizer.encode_batch_fast(strings, add_special_tokens=False)]
    special = [e.ids for e in tokenizer.encode_batch_fast(strings)]
    texts = [map(until_nul, tokenizer.decode_batch(special, skip_special_tokens=skip))
             for skip in (False, True)]
    return zip(plain, special, *texts)


def compare(name, driver, folder, tokenizer, strings):
    started = time.monotonic()
    wrong = 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask_driver, driver, folder, strings)
        expected = ask_reference(tokenizer, strings)
    answers = parse_answer(answer.result(), len(strings))
    for string, want, got in zip(strings, expected, answers, strict=True):
        if want != got:
            wrong += 1
            if wrong <= 3:
                what = next(i for i in range(4) if want[i] != got[i])
                print(f"{name}: {string!r}\n  want {want[what]!r}\n  got  {got[what]!r}")
    print(f"{name}: {len(strings)} strings, {wrong} differ, {time.monotonic() - started:.1f} s",
          flush=True)
    return wrong == 0


def main():
    arguments = parser()
    arguments.add_argument("--n", type=int, default=100000)
    arguments.add_argument("--only", default="")
    options = arguments.parse_args()
    driver = options.build.resolve() / "tests" / "interop" / "tokenize_driver"
    paths = sorted((options.data / "text").glob("*.txt")) or [SHIPPED / "heldout.txt"]
    texts = [p.read_text(encoding="utf-8") for p in paths]
    strings = make_strings(options.n, texts, options.data)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder, tokenizer in all_tokenizers(options.data, [t[:200000] for t in texts],
                                                      pathlib.Path(scratch)):
            if options.only in name:
                results.append(compare(name, driver, folder, tokenizer, strings))
    print(f"{sum(results)} of {len(results)} tokenizers agree on {len(strings)} strings each")
    sys.exit(0 if results and all(results) else 1)


main()
