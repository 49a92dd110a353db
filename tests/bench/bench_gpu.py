#!/usr/bin/env python3
"""Measures rankpress on this machine's GPU and prints docs/results.md's tables.

usage: bench_gpu.py --program PATH [--size full|tiny] [--data DIR] [--work DIR] [--keep DIR] [ROW]...

  --program  rankpress, built with CUDA
  --size     full: models of 8B and 1.1B shape, 128 x 2048 tokens; tiny: a rehearsal in seconds
  --data     folder of booklm: model, tokenizer and texts
  --work     models and outputs, about 45 GB of room for `full` (default build/bench-gpu)
  --keep     folder for the rows' report.json
  ROW        gptq, gptq-drift, gguf, rtn, small, small-drift; agreement: both back ends on booklm;
             default: all

Standard library only. make_model.py lies beside it.
"""
import argparse
import datetime
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
SIZES = {  # of the large and the small model: name and shape; samples, tokens of a sample and of a block
    "full": (("8B", "--like", "llama-8b", "--shard-bytes", "5GB"), ("1.1B", "--like", "tinyllama"),
             128, 2048, 8192),
    "tiny": (("tiny", "--set", "num_hidden_layers=2", "--set", "hidden_size=256", "--set",
              "intermediate_size=512"), ("tiniest", "--set", "num_hidden_layers=2"), 4, 64, 128),
}
ROWS = {  # model, method, drift, output, seconds that are the goal
    "gptq": ("large", "gptq", "none", "gptq", 40),
    "gptq-drift": ("large", "gptq", "full", "gptq", 40),
    "gguf": ("large", "gptq", "none", "gguf", 60),
    "rtn": ("large", "rtn", "none", "gguf", 12),
    "small": ("small", "gptq", "none", "gptq", 8),
    "small-drift": ("small", "gptq", "full", "gptq", 8),
}
WORDS = {"gptq": "W4 g128", "gguf": "GGUF Q4_K_M"}
# Dense FLOP/s of the data sheets: BF16 and FP64 on tensor cores, FP32; and the phases that use them.
PEAKS = {"H200": (989e12, 67e12, 67e12), "H100": (989e12, 67e12, 67e12),
         "A100": (312e12, 19.5e12, 19.5e12)}
PHASE_PEAK = {"forward": 0, "gram": 0, "factor": 1, "solve": 2}
PHASES = ("read", "forward", "gram", "factor", "solve", "checkpoint", "write", "fsync", "verify")


def ask_gpu(what):
    """One value of nvidia-smi of the first GPU; None without one."""
    try:
        result = subprocess.run(["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"],
                                text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    return result.stdout.split("\n")[0].strip() or None if result.returncode == 0 else None


class MemoryWatch:
    """Most MB of the GPU in use, above what was in use before."""

    def __enter__(self):
        self.before, self.most, self.smi = ask_gpu("memory.used"), 0, None
        if self.before is not None:
            self.smi = subprocess.Popen(["nvidia-smi", "--query-gpu=memory.used", "-lms", "250",
                                         "--format=csv,noheader,nounits"], text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self.thread = threading.Thread(target=self.watch, daemon=True)
            self.thread.start()
        return self

    def watch(self):
        for line in self.smi.stdout:
            if line.strip().isdigit():
                self.most = max(self.most, int(line) - int(self.before))

    def __exit__(self, *_):
        if self.smi is not None:
            self.smi.terminate()
            self.smi.wait()
            self.thread.join()


class Bench:
    def __init__(self, args):
        self.args, self.work = args, args.work.resolve()
        self.large, self.small, self.samples, self.tokens, self.block = SIZES[args.size]
        self.seconds = {}
        self.work.mkdir(parents=True, exist_ok=True)
        self.text = self.work / "text.txt"
        text = (args.data / "calibration.txt").read_bytes()
        self.text.write_bytes(text * (1 + self.samples * self.tokens * 8 // len(text)))

    def call(self, *words):
        command = [str(w) for w in (self.args.program, *words)]
        result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if result.returncode not in (0, 1):  # 1: done, a gate failed
            sys.exit(f"bench-gpu: {shlex.join(command)}\n{result.stderr}")
        return result.stdout

    def model(self, name):
        folder = self.work / name
        if not (folder / "config.json").exists():
            words = (self.large if name == "large" else self.small)[1:]
            subprocess.run([sys.executable, str(HERE / "make_model.py"), str(folder), "--pool",
                            "--jobs", str(os.cpu_count()), "--tokenizer", str(self.args.data),
                            *words], check=True)
        return folder

    def run_job(self, job):
        """Runs a job (JSON is YAML) into a fresh folder; returns folder, report, seconds, MB of the GPU."""
        out, path = self.work / "out", self.work / "job.yaml"
        shutil.rmtree(out, ignore_errors=True)
        path.write_text(json.dumps({**job, "output": {**job["output"], "dir": str(out)}}, indent=1))
        begin = time.monotonic()
        with MemoryWatch() as memory:
            self.call("run", path)
        seconds = time.monotonic() - begin
        return out, json.loads((out / "report.json").read_text()), seconds, memory.most

    def job(self, model, method, drift, output):
        step = {"targets": ["Linear"]}
        if output == "gptq":
            step.update(ignore=["lm_head"], scheme="W4A16", group_size=128)
        job = {"model": str(model), "backend": "cpu", "recipe": [{method: step}],
               "output": {"formats": [{"gptq": {}} if output == "gptq" else {"gguf": "Q4_K_M"}]}}
        if method == "gptq":
            step["drift"] = drift
            job["backend"] = "cuda"
            job["calibration"] = {"text": str(self.text), "num_calibration_samples": self.samples,
                                  "max_seq_length": self.tokens, "block_tokens": self.block}
        return job

    def measure(self, name):
        """A row, and one of the peaks' fractions."""
        model, method, drift, output, goal = ROWS[name]
        job = self.job(self.model(model), method, drift, output)
        out, report, seconds, used = self.run_job(job)
        if self.args.keep:
            self.args.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(out / "report.json", self.args.keep / f"{name}.json")
        shutil.rmtree(out)
        words = [(self.large if model == "large" else self.small)[0], WORDS[output], method.upper()]
        what = " ".join(words) + (f", drift {drift}" if method == "gptq" else "")
        gigabytes = ["-"] * 3
        if report["gpu"] is not None:
            planned, peak, own = (report["gpu"][k] / 1e9
                                  for k in ("planned_bytes", "peak_bytes", "own_bytes"))
            gigabytes = [planned, peak, planned + own]
        self.seconds[name] = seconds
        row = [what, seconds, goal if self.args.size == "full" else "-",
               *[report["phases"][p]["seconds"] for p in PHASES], *gigabytes,
               used / 1e3 if used else "-"]
        # A report's FLOP do not count the products of drift correction.
        is_counted = method == "gptq" and drift == "none"
        return row, [what, *self.fractions(report)] if is_counted else None

    def fractions(self, report):
        name = ask_gpu("name") or ""
        peaks = next((PEAKS[k] for k in PEAKS if k in name), None)
        for phase, kind in PHASE_PEAK.items():
            p = report["phases"][phase]
            rate = p["flop"] / p["seconds"] if p["seconds"] > 0 else 0.0
            yield rate / 1e12
            yield rate / peaks[kind] if peaks else "-"

    def disk_rates(self):
        """Bytes a second that dd reads, past the page cache where the file system lets it, and writes."""
        source = max(self.model("large").glob("*.safetensors"), key=lambda f: f.stat().st_size)
        n = source.stat().st_size
        target = self.work / "dd.bin"

        def rate(*words):
            begin = time.monotonic()
            done = subprocess.run(["dd", "bs=16M", *words], stderr=subprocess.DEVNULL).returncode == 0
            return n / (time.monotonic() - begin) if done else None

        read = rate(f"if={source}", "of=/dev/null", "iflag=direct") or rate(f"if={source}", "of=/dev/null")
        write = rate(f"if={source}", f"of={target}", "conv=fdatasync")
        target.unlink()
        return read, write

    def agreement(self):
        """Rows: back end, perplexity and KL of what it wrote, both measured on the CPU."""
        samples, tokens, windows = (128, 512, 0) if self.args.size == "full" else (2, 64, 1)
        rows = []
        for backend, products in (("cpu", "f32"), ("cpu", "bf16"), ("cuda", "bf16")):
            job = {"model": str(self.args.data), "backend": backend,
                   "output": {"formats": [{"gptq": {"name": "m"}}]},
                   "calibration": {"text": str(self.text if tokens > 64 else
                                               self.args.data / "calibration.txt"),
                                   "num_calibration_samples": samples, "max_seq_length": tokens},
                   "recipe": [{"gptq": {"targets": ["Linear"], "ignore": ["lm_head"],
                                        "scheme": "W4A16", "group_size": 128}}],
                   "cluster": {"products": products}}
            out, report, seconds, _ = self.run_job(job)
            words = ["eval", out / "m", "--text", self.args.data / "heldout.txt", "--base",
                     self.args.data, "--context", tokens, "--backend", "cpu", "--json"]
            words += ["--max-windows", windows] if windows else []
            figures = json.loads(self.call(*words))
            ppl, kl = find(figures, "perplexity"), find(figures, "kl_divergence")
            first = rows[0] if rows else [0, 0, ppl, 0, kl]
            rows.append([f"{backend}, {products}", seconds, ppl, 100 * (ppl / first[2] - 1), kl,
                         100 * (kl / first[4] - 1)])
            shutil.rmtree(out)
        return rows


def find(tree, key):
    """The first value of that key anywhere in a JSON tree."""
    if isinstance(tree, dict):
        if key in tree:
            return tree[key]
        tree = list(tree.values())
    for branch in tree if isinstance(tree, list) else []:
        found = find(branch, key)
        if found is not None:
            return found
    return None


def put_row(row):
    print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |",
          flush=True)


def table(head, rows):
    print()
    put_row(head)
    print("|" + " --- |" * len(head))
    for row in rows:
        put_row(row)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--data", type=pathlib.Path, default=HERE.parents[1] / "examples/models/booklm")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/bench-gpu"))
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("row", nargs="*", choices=[*ROWS, "agreement", []])
    args = parser.parse_args()
    wanted = args.row or [*ROWS, "agreement"]

    bench = Bench(args)
    bench.call("--version")
    print(f"{datetime.date.today()}, {ask_gpu('name') or 'no GPU (a rehearsal)'}, driver "
          f"{ask_gpu('driver_version') or '-'}, {os.cpu_count()} cores, {bench.samples} x {bench.tokens} "
          f"tokens, `{shlex.join(['scripts/bench-gpu', *sys.argv[1:]])}`")
    fractions = []
    table(["run", "seconds", "goal", *PHASES, "arena planned GB", "arena peak GB", "GPU planned GB",
           "GPU in use GB"], [])
    for name in [w for w in wanted if w in ROWS]:
        row, fraction = bench.measure(name)
        put_row(row)
        fractions += [fraction] if fraction else []
    if "rtn" in wanted:
        read, write = bench.disk_rates()
        files = bench.model("large").glob("*.safetensors")
        seconds = sum(f.stat().st_size for f in files) / read
        table(["dd reads GB/s", "dd writes GB/s", "seconds to read the model", "of RTN's"],
              [[read / 1e9, write / 1e9, seconds, seconds / bench.seconds["rtn"]]])
    if fractions:
        table(["run", *[w for p in PHASE_PEAK for w in (f"{p} TFLOP/s", "of peak")]], fractions)
    if "agreement" in wanted:
        table(["booklm, W4 g128", "seconds", "perplexity", "% off", "mean KL", "% off"], bench.agreement())


main()
