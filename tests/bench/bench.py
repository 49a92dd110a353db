#!/usr/bin/env python3
"""Measures what docs/results.md shows and prints its tables.

usage: bench.py [--build DIR] [--data DIR] [--work DIR] [--ranks N] [WHAT]...

WHAT: kl, gptq, stop, rtn, memory; gguf (quality) and gguf-speed, beside llama.cpp's tools: RP_LLAMA_CPP is
the folder of llama-imatrix, llama-quantize and libggml-base.so; without it they say "skipped".
Standard library only; the split of the story text needs the `tokenizers` package and is left out
without it. Models, outputs and logs go below --work (default build/bench).
"""
import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKLM = ROOT / "examples/models/booklm"


class Bench:
    def __init__(self, args):
        self.rankpress = args.build / "jobs/rankpress"
        self.blocks_bench = args.build / "tests/bench/blocks_bench"
        self.data, self.work, self.ranks = args.data, args.work, args.ranks
        self.work.mkdir(parents=True, exist_ok=True)

    def call(self, *words, ranks=1):
        """Standard output of the program."""
        command = [str(w) for w in (self.rankpress, *words)]
        if ranks > 1:
            command = [str(ROOT / "scripts/mpirun"), "-n", str(ranks), *command]
        result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if result.returncode not in (0, 1):  # 1: done, a gate failed
            sys.exit(f"bench: {' '.join(command)}\n{result.stderr}")
        return result.stdout

    def run_job(self, name, job, ranks=None):
        """Runs a job (a dict; JSON is YAML) into a fresh folder; returns folder, report, seconds."""
        out = self.work / name
        shutil.rmtree(out, ignore_errors=True)
        job = {**job, "output": {**job["output"], "dir": str(out)}}
        path = self.work / f"{name}.yaml"
        path.write_text(json.dumps(job, indent=1))
        begin = time.monotonic()
        self.call("run", path, ranks=ranks or self.ranks)
        seconds = time.monotonic() - begin
        return out, json.loads((out / "report.json").read_text()), seconds

    def model(self, name, *words):
        folder = self.work / name
        if not (folder / "config.json").exists():
            subprocess.run([sys.executable, str(ROOT / "tests/bench/make_model.py"), str(folder),
                            *words], check=True)
        return folder


def machine():
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.processor()
    return f"{name}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |")
    print(flush=True)


def find(tree, key):
    """The first value of that key anywhere in a JSON tree."""
    if isinstance(tree, dict):
        if key in tree:
            return tree[key]
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            found = find(branch, key)
            if found is not None:
                return found
    return None


def bytes_of(folder):
    return sum(f.stat().st_size for f in pathlib.Path(folder).rglob("*.safetensors")) + sum(
        f.stat().st_size for f in pathlib.Path(folder).rglob("*.gguf"))


def split_stories(bench, tokens):
    """The story text after its first `tokens` tokens, as a file; None without what it takes."""
    text_path = bench.data / "text/tinystories-train-head.txt"
    folder = bench.data / "models/stories260K/hf"
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    if not text_path.exists():
        return None
    text = text_path.read_text(encoding="utf-8")
    coded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text,
                                                                       add_special_tokens=False)
    rest = bench.work / "stories-heldout.txt"
    rest.write_text(text[coded.offsets[tokens][0]:], encoding="utf-8")
    return folder, text_path, rest


def kl_of(bench, folder, text, base, windows):
    words = ["eval", folder, "--text", text, "--base", base, "--context", 512, "--json"]
    words += ["--max-windows", windows] if windows else []
    return find(json.loads(bench.call(*words, ranks=bench.ranks)), "kl_divergence")


def compare_kl(bench, name, model, calibration, text, windows, scheme, container, limit):
    """One row: rounding, plain GPTQ and GPTQ with its drift corrected under one scheme."""
    kls = []
    for method, drift in (("rtn", "none"), ("gptq", "none"), ("gptq", "full")):
        step = {"targets": ["Linear"], "ignore": ["lm_head"], "drift": drift, **scheme}
        job = {"model": str(model), "output": {"formats": [{container: {"name": "out"}}]},
               "calibration": {"text": str(calibration), "num_calibration_samples": 128,
                               "max_seq_length": 512},
               "recipe": [{method: step}]}
        out, _, _ = bench.run_job(f"kl-{name}-{method}-{drift}", job)
        kls.append(kl_of(bench, out / "out", text, model, windows))
    return [name, *kls, kls[1] / kls[0], limit, kls[2] / kls[1]]


def bench_kl(bench):
    text = bench.data / "text/books-heldout.txt"
    text = text if text.exists() else BOOKLM / "heldout.txt"
    calibration = BOOKLM / "calibration.txt"
    schemes = [
        ("4bit-g128", {"bits": 4, "group_size": 128, "mse": False}, 0.5),
        ("3bit-channel", {"bits": 3, "group_size": "channel", "mse": False}, 0.5),
        ("4bit-g128-mse", {"bits": 4, "group_size": 128, "mse": True}, 0.6),
        ("3bit-g128-mse", {"bits": 3, "group_size": 128, "mse": True}, 0.6),
    ]
    rows = [compare_kl(bench, name, BOOKLM, calibration, text, 64, scheme, "gptq", limit)
            for name, scheme, limit in schemes]
    stories = split_stories(bench, 128 * 512)
    if stories:
        folder, whole, rest = stories
        rows.append(compare_kl(bench, "stories260K-4bit-g32", folder, whole, rest, 0,
                               {"bits": 4, "group_size": 32}, "safetensors", 0.7))
    table(["scheme", "KL rtn", "KL gptq, drift none", "KL gptq, drift full", "gptq / rtn", "goal",
           "drift full / none"], rows)


def operations(config, tokens):
    """(what, kind of bench-gemm, m, n, k, FLOP of all of it) of calibration and solving over `tokens`."""
    hidden, middle = config["hidden_size"], config["intermediate_size"]
    q_rows = config["num_attention_heads"] * config["head_dim"]
    kv_rows = config["num_key_value_heads"] * config["head_dim"]
    layers, length = config["num_hidden_layers"], 512
    linears = [("q", q_rows, hidden), ("k", kv_rows, hidden), ("v", kv_rows, hidden),
               ("o", hidden, q_rows), ("gate", middle, hidden), ("up", middle, hidden),
               ("down", hidden, middle)]
    sites = [("attention input", hidden), ("attention output", q_rows), ("MLP input", hidden),
             ("MLP middle", middle)]
    for name, rows, columns in linears:
        last = layers - (name == "down")  # the last layer's output goes nowhere
        yield f"forward {name}", "f32", 2048, rows, columns, 2.0 * tokens * rows * columns * last
    # Two products over the causal half.
    yield ("attention", "f32", 2048, config["head_dim"], length,
           2.0 * tokens * length * q_rows * layers)
    for name, columns in sites:  # one triangle
        yield (f"Gram of {name}", "f32", columns, columns, 2048,
               1.0 * tokens * columns**2 * layers)
    for name, columns in sites:
        yield (f"factor of {name}", "f64", columns, columns, 256, columns**3 / 3.0 * layers)
    for name, rows, columns in linears:
        yield f"solve {name}", "f32", rows, columns, 128, 1.0 * rows * columns**2 * layers


def best_rate(bench, precision, m, n, k):
    """Best FLOP a second of the whole machine for a shape, with whatever of bench-gemm computes it."""
    reply = json.loads(bench.call("bench-gemm", "--m", m, "--n", n, "--k", k, "--products", "f32",
                                  "--json"))
    kinds = ("dgemm", "cholesky") if precision == "f64" else ("sgemm", "linear", "gram")
    return 1e9 * max(row["rate"] for row in find(reply, "rates") if row["kind"] in kinds)


# What calibration and solving consist of; reading, checkpoints and evaluation are given apart.
WORK_PHASES = ("forward", "gram", "reduce", "factor", "solve", "exchange")


def bench_gptq(bench):
    model = bench.model("smollm2-135m", "--like", "smollm2-135m")
    config = json.loads((model / "config.json").read_text())
    job = {"model": str(model), "output": {"formats": [{"gptq": {}}]},
           "calibration": {"text": str(BOOKLM / "calibration.txt"),
                           "num_calibration_samples": 128, "max_seq_length": 512},
           "recipe": [{"gptq": {"targets": ["Linear"], "ignore": ["lm_head"], "scheme": "W4A16",
                                "group_size": 64, "drift": "none"}}]}
    _, report, seconds = bench.run_job("gptq-135m", job, ranks=2)
    rows, ideal = [], 0.0
    for name, precision, m, n, k, flop in operations(config, 128 * 512):
        rate = best_rate(bench, precision, m, n, k)
        ideal += flop / rate
        rows.append([name, f"{m} x {n} x {k}", flop / 1e9, rate / 1e9, flop / rate])
    table(["operation", "shape", "GFLOP", "GFLOP/s of bench-gemm", "seconds"], rows)
    phases = {name: phase["seconds"] for name, phase in report["phases"].items()}
    table(["phase", "seconds (slowest rank)"],
          [*phases.items(), ("whole process", seconds)])
    wall = sum(phases[name] for name in WORK_PHASES)
    table(["seconds at the rates above", "seconds taken", "ratio", "goal", "peak MB a rank"],
          [[ideal, wall, ideal / wall, 0.5, report["peak_bytes_per_rank"] / 1e6]])


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run_and_stop(bench, job_path, out, layers):
    """Stops the job by SIGTERM to its ranks when so many layers are solved; seconds until then, and
    from the signal to the end."""
    shutil.rmtree(out, ignore_errors=True)
    begin = time.monotonic()
    job = subprocess.Popen([str(ROOT / "scripts/mpirun"), "-n", "2", str(bench.rankpress), "run",
                            str(job_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest = out / "checkpoint/manifest.json"
    ends_layer = f'"layer/{layers - 1}/site/3/facts"'
    while not (manifest.exists() and ends_layer in manifest.read_text()):
        time.sleep(0.05)
    asked = time.monotonic()
    for rank in children(job.pid):
        os.kill(rank, signal.SIGTERM)
    if job.wait() != 75:
        sys.exit(f"bench: a stopped job ended with {job.returncode}")
    return asked - begin, time.monotonic() - asked


def bench_stop(bench):
    model = bench.model("smollm2-135m", "--like", "smollm2-135m")
    job = {"model": str(model), "output": {"formats": [{"gptq": {}}]},
           "calibration": {"text": str(BOOKLM / "calibration.txt"),
                           "num_calibration_samples": 32, "max_seq_length": 512},
           "recipe": [{"gptq": {"targets": ["Linear"], "ignore": ["lm_head"], "scheme": "W4A16",
                                "group_size": 64}}]}
    rows, whole = [], []
    for every in (1, 1000, 1, 1000):
        job["cluster"] = {"checkpoint": {"every_layers": every}}
        _, report, seconds = bench.run_job("stop", job, ranks=2)
        saving = report["phases"]["checkpoint"]["seconds"]
        rows.append([every, seconds, saving, saving / seconds])
        whole += [seconds] if every == 1 else []
    table(["layers from one checkpoint to the next", "seconds", "of them checkpoint",
           "share (goal 0.05)"], rows)
    job["cluster"] = {}
    layers = json.loads((model / "config.json").read_text())["num_hidden_layers"]
    path, out, rows = bench.work / "stop.yaml", bench.work / "stop", []
    for solved in (layers // 3, layers // 2, 2 * layers // 3):
        path.write_text(json.dumps({**job, "output": {**job["output"], "dir": str(out)}}))
        before, stopping = run_and_stop(bench, path, out, solved)
        begin = time.monotonic()
        bench.call("resume", out, ranks=2)
        after = time.monotonic() - begin
        undisturbed = min(whole)
        rows.append([solved, stopping, before + stopping + after - undisturbed,
                     undisturbed / layers + 2])
    table(["stopped after layer", "seconds to stop", "seconds lost in all",
           "goal: a layer and 2 seconds"], rows)


def copy_rate(bench, model):
    """Bytes read and written a second by a plain copy, best of three, page cache warm."""
    source = max(model.glob("*.safetensors"), key=lambda f: f.stat().st_size)
    target = bench.work / "copy.bin"
    best = float("inf")
    for _ in range(4):
        begin = time.monotonic()
        with open(source, "rb") as src, open(target, "wb") as dst:
            shutil.copyfileobj(src, dst, 1 << 22)
        best = min(best, time.monotonic() - begin)
    target.unlink()
    return 2 * source.stat().st_size / best


def bench_rtn(bench):
    model = bench.model("model-1gb", "--like", "tinyllama", "--bytes", "1GB")
    rate = copy_rate(bench, model)
    rows = []
    for name, output in (("gptq", {"gptq": {}}), ("safetensors", {"safetensors": {}}),
                         ("gguf Q4_0", {"gguf": "Q4_0"}), ("gguf Q8_0", {"gguf": "Q8_0"})):
        job = {"model": str(model), "output": {"formats": [output]},
               "recipe": [{"rtn": {"targets": ["Linear"], "ignore": ["lm_head"],
                                   "scheme": "W8A16" if "Q8" in name else "W4A16",
                                   "group_size": 128}}]}
        out, report, seconds = bench.run_job("rtn-" + name.replace(" ", "-"), job, ranks=1)
        moved = bytes_of(model) + bytes_of(out)
        apart = sum(report["phases"][name]["seconds"] for name in ("fsync", "verify"))
        mine = moved / (seconds - apart)
        rows.append([name, moved / 1e9, seconds, apart, mine / 1e9, rate / 1e9, mine / rate])
        shutil.rmtree(out)
    table(["output", "GB read and written", "seconds", "of them fsync and verify", "GB/s",
           "copy GB/s", "ratio (goal 0.5)"], rows)


def bench_memory(bench):
    model = bench.model("model-2gb-narrow", "--like", "tinyllama", "--set", "hidden_size=1024", "--set",
                        "intermediate_size=2816", "--set", "head_dim=32", "--bytes", "2.1GB",
                        "--shard-bytes", "500MB")
    job = {"model": str(model), "output": {"formats": [{"gptq": {}}]},
           "calibration": {"text": str(BOOKLM / "calibration.txt"),
                           "num_calibration_samples": 16, "max_seq_length": 256},
           "recipe": [{"gptq": {"targets": ["Linear"], "ignore": ["lm_head"], "scheme": "W4A16",
                                "group_size": 128}}]}
    rows = []
    for name, drift, cluster in (("no limit", "full", {}), ("no limit", "none", {}),
                                 ("512 MB a rank", "none", {"memory_per_rank": "512MB"})):
        job = {**job, "cluster": cluster}
        job["recipe"][0]["gptq"]["drift"] = drift
        out, report, seconds = bench.run_job(f"memory-{name.split()[0]}-{drift}", job, ranks=2)
        plan = json.loads(bench.call("plan", out / "job.yaml", "--ranks", 2, "--json"))
        planned, peak = plan["memory_per_rank_bytes"]["total"], report["peak_bytes_per_rank"]
        rows.append([name, drift, bytes_of(model) / 1e6, planned / 1e6, peak / 1e6, peak / planned,
                     seconds])
        shutil.rmtree(out)
    table(["limit", "drift", "model MB", "planned MB a rank", "measured MB a rank", "ratio (goal 1.10)",
           "seconds"], rows)


LINEAR_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "IQ4_XS")
FILE_MIXES = ("Q2_K", "Q3_K_M", "Q4_K_S", "Q4_K_M")
LINEARS_ONLY = ["--pure", "--token-embedding-type", "bf16", "--output-tensor-type", "bf16"]
LINEARS_ONLY_KEYS = {"pure": True, "token_embedding_type": "BF16", "output_tensor_type": "BF16"}


def llama_file(bench, tools, source, imatrix, name, ftype, *words):
    """llama-quantize's file with its own importance matrix."""
    out = bench.work / f"llama-{name}.gguf"
    subprocess.run([tools / "llama-quantize", "--imatrix", imatrix, *words, source, out, ftype, "2"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


def our_file(bench, name, keys, recipe, seed):
    job = {"model": str(BOOKLM), "output": {"formats": [{"gguf": {"name": "out.gguf", **keys}}]},
           "calibration": {"text": str(BOOKLM / "calibration.txt"),
                           "num_calibration_samples": 128, "max_seq_length": 512, "seed": seed},
           "recipe": [{"gptq": recipe}]}
    out, _, _ = bench.run_job(f"gguf-{name}", job)
    return out / "out.gguf"


def kls_of(bench, path, texts):
    return [kl_of(bench, path, text, BOOKLM, 64) for text in texts]


def compare_file(bench, name, theirs, keys, texts):
    """Rows of one type: llama.cpp's file, error feedback alone, with drift corrected (three draws)."""
    reference = kls_of(bench, theirs, texts)
    yield [name, "llama.cpp, imatrix", theirs.stat().st_size, *reference, *[1.0] * len(texts)]
    for what, recipe, seeds in (("drift none", {"drift": "none"}, (0,)),
                                ("drift full", {"drift": "full"}, (0, 1, 2))):
        for seed in seeds:
            ours = our_file(bench, name, keys, recipe, seed)
            kls = kls_of(bench, ours, texts if seed == 0 else texts[:1])
            kls += ["-"] * (len(texts) - len(kls))
            yield [name, f"{what}, seed {seed}", ours.stat().st_size, *kls,
                   *["-" if kl == "-" else kl / other for kl, other in zip(kls, reference)]]


def bench_gguf(bench):
    tools = os.environ.get("RP_LLAMA_CPP")
    texts = [bench.data / "text/books-heldout.txt", bench.data / "text/wikitext-2-test.txt"]
    if not tools or not all(text.exists() for text in texts):
        print("gguf: skipped: RP_LLAMA_CPP is not set, or the texts are not there")
        return
    tools, imatrix = pathlib.Path(tools), bench.work / "imatrix.gguf"
    job = {"model": str(BOOKLM), "output": {"formats": [{"gguf": {"type": "F32", "name": "f32.gguf"}}]}}
    source = bench.run_job("gguf-source", job)[0] / "f32.gguf"
    subprocess.run([tools / "llama-imatrix", "-m", source, "-f", BOOKLM / "calibration.txt", "-c", "512",
                    "--chunks", "128", "-t", "2", "-o", imatrix], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    head = ["type", "by", "bytes", "KL books", "KL wikitext-2", "ratio", "ratio"]
    rows = []
    for ftype in LINEAR_TYPES:
        mix = {"Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}.get(ftype, ftype)
        theirs = llama_file(bench, tools, source, imatrix, f"linears-{ftype}", mix, *LINEARS_ONLY)
        rows += compare_file(bench, ftype, theirs, {"type": mix, **LINEARS_ONLY_KEYS}, texts)
    table(head, rows)
    rows = []
    for mix in FILE_MIXES:
        theirs = llama_file(bench, tools, source, imatrix, mix, mix)
        rows += compare_file(bench, mix, theirs, {"type": mix}, texts)
    table(head, rows)


GGUF_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "IQ4_XS")


def llama_quantize(program, source, target, mix, threads, *options):
    """Seconds of the whole process, seconds that it says quantising took, its peak bytes."""
    command = [str(w) for w in (program, *options, source, target, mix, threads)]
    begin = time.monotonic()
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        said = re.search(r"quantize time = *([\d.]+) ms", process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: {' '.join(command)}: exit {process.returncode}")
    return time.monotonic() - begin, float(said[1]) / 1e3, usage.ru_maxrss * 1024


def gguf_rates(bench, library):
    """Rounding and decoding of one tensor in memory, one thread, both in one process."""
    pattern = re.compile(r"(encode|weighted|decode) +([\d.]+) GB/s +([\d.]+) "
                         r"\(([\d.]+), ([\d.]+) x\)")
    rows = []
    for name in GGUF_TYPES:
        reply = subprocess.run([str(bench.blocks_bench), "64", name, str(library)], check=True,
                               text=True, stdout=subprocess.PIPE).stdout
        rows += [[name, what, float(ours), float(ratio), float(theirs), float(times)]
                 for what, ours, ratio, theirs, times in pattern.findall(reply)]
    table(["type", "what", "GB/s of f32", "of memcpy's", "ggml's GB/s", "times ggml's"], rows)


def gguf_run(bench, source, name, mix, ranks, threads, options):
    """Report of a run with plain rounding, seconds of the whole process, and without fsync and
    verification, which llama-quantize has not."""
    job = {"model": str(source), "cluster": {"threads": threads},
           "output": {"formats": [{"gguf": {"type": mix, **options}}]},
           "recipe": [{"rtn": {"targets": ["Linear"], "ignore": ["lm_head"]}}]}
    out, report, seconds = bench.run_job(name, job, ranks=ranks)
    shutil.rmtree(out)
    apart = sum(report["phases"][name]["seconds"] for name in ("fsync", "verify"))
    return report, seconds, seconds - apart


def gguf_source(bench, name, size):
    model = bench.model(name, "--like", "tinyllama", "--bytes", size)
    path = bench.work / f"{name}.gguf"
    if not path.exists():
        out, _, _ = bench.run_job(f"{name}-source", {
            "model": str(model), "output": {"formats": [{"gguf": "BF16"}]}, "recipe": []}, ranks=1)
        next(out.glob("*.gguf")).rename(path)
    return path


def bench_gguf_speed(bench):
    tools = os.environ.get("RP_LLAMA_CPP")
    if not tools:
        print("gguf-speed: skipped: RP_LLAMA_CPP is not set\n")
        return
    peer = pathlib.Path(tools) / "llama-quantize"
    gguf_rates(bench, pathlib.Path(tools) / "libggml-base.so")
    target = bench.work / "theirs.gguf"
    source = gguf_source(bench, "model-300mb", "300MB")
    rows = []
    for mix in GGUF_TYPES:
        _, _, ours = gguf_run(bench, source, f"gguf-{mix}", mix, 1, 1, {"pure": True})
        whole, theirs, _ = llama_quantize(peer, source, target, mix, 1, "--pure")
        rows.append([mix, ours, theirs, whole, theirs / ours])
    table(["pure file, one thread", "seconds of the run", "llama-quantize's quantize time",
           "its whole process", "times faster (goal 8 for K types)"], rows)
    source = gguf_source(bench, "model-1gb", "1GB")
    report, seconds, ours = gguf_run(bench, source, "gguf-run", "Q4_K_M", 2, 1, {})
    whole, theirs, peak = llama_quantize(peer, source, target, "Q4_K_M", 2)
    target.unlink()
    table(["RTN Q4_K_M of 1 GB", "seconds", "peak MB a process"],
          [["rankpress, 2 ranks", seconds, report["peak_bytes_per_rank"] / 1e6],
           ["of them without fsync and verify", ours, ""],
           ["llama-quantize, 2 threads", whole, peak / 1e6],
           ["of them quantising", theirs, ""],
           ["times faster (goal 3)", whole / ours, ""]])


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "../shared/data")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/bench")
    parser.add_argument("--ranks", type=int, default=2)
    benches = {"kl": bench_kl, "gptq": bench_gptq, "stop": bench_stop, "rtn": bench_rtn,
               "memory": bench_memory, "gguf": bench_gguf, "gguf-speed": bench_gguf_speed}
    parser.add_argument("what", nargs="*", choices=[*benches, []], default=[])
    args = parser.parse_args()
    print(machine() + "\n")
    for name in args.what or benches:
        benches[name](Bench(args))


main()
