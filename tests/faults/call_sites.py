#!/usr/bin/env python3
"""Fails every call site of a small job on two ranks, one at a time, and goes on afterwards.

usage: call_sites.py BUILD SCRATCH [--soak] [--only PATTERN] [--what NAME] [--seed N] [--jobs N]
                                   [--seconds N]

A traced run tells the fault points that a fresh job and a resumed one pass on each rank, and how
often. Each is failed in a run of its own: the first time on one rank; with --soak the first, the
second and the last time, once and for ever from there, on either rank. Every run must end in time
with one message and the exit code of such a failure, nothing half-written under a final name, and
the next run of the job must end with the bytes of an undisturbed one.

  --only     sites whose "kind file:line" contains this
  --what     an error's name instead of EIO, or kill: the rank ends there without a word
  --seconds  starts no more runs after so long and says how many were left out
"""
import argparse
import collections
import concurrent.futures
import hashlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKLM = ROOT / "examples/models/booklm"
LIMIT_SECONDS = 60
MODEL = ["num_hidden_layers=2", "hidden_size=32", "intermediate_size=64", "num_attention_heads=2",
         "num_key_value_heads=2"]
JOB = f"""
model: {{model}}
output:
  dir: {{out}}
  imatrix: imatrix.gguf
  formats: [{{{{gptq: {{{{}}}}}}}}, {{{{gguf: {{{{type: Q8_0, max_shard_size: 200kB}}}}}}}}]
calibration: {{{{text: {BOOKLM}/calibration.txt, num_calibration_samples: 4, max_seq_length: 32}}}}
recipe:
  - gptq: {{{{targets: [Linear], ignore: [lm_head], scheme: W4A16, group_size: 32}}}}
evaluate: {{{{text: {{text}}, context: 32, max_windows: 2}}}}
gates: [{{{{fallbacks: 0}}}}]
"""
FINAL = re.compile(r"\.(gguf|safetensors|safetensors\.index\.json)$|^(quantize_)?config\.json$")
LEFT_OVER = re.compile(r"\.(part|tmp)$|^\.lock|^token\.")
MEMORY, IO = {71}, {74}
# What a failure of a kind of call may end with beside 0: where it costs nothing, or only a warning.
CODES = collections.defaultdict(lambda: IO, alloc=MEMORY, json=MEMORY, thread=MEMORY)
CODES_OF_ERROR = {"EACCES": {77}, "EROFS": {77}, "ENOMEM": MEMORY}

Case = collections.namedtuple("Case", "stage rank kind site n every")


class Failure(Exception):
    pass


def digests(folder):
    """Path -> hash of the files that others load."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "checkpoint" not in path.parts and FINAL.search(path.name):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Loop:
    def __init__(self, args):
        self.args = args
        self.program = pathlib.Path(args.build) / "jobs/rankpress"
        self.scratch = pathlib.Path(args.scratch)
        self.job = self.scratch / "job.yaml"
        self.stopped = self.scratch / "stopped"
        self.reference = {}
        self.lock = threading.Lock()
        self.n_runs = 0

    def start(self, out, nranks, **env):
        """Exit code and standard error of a run of the job."""
        command = [self.program, "run", self.job, f"output.dir={out}", "--quiet"]
        if nranks > 1:
            command = [ROOT / "scripts/mpirun", "-n", str(nranks)] + command
        with self.lock:
            self.n_runs += 1
        done = subprocess.Popen(command, env=os.environ | env, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            log = done.communicate(timeout=LIMIT_SECONDS)[1]
            return done.returncode, log
        except subprocess.TimeoutExpired:
            os.killpg(done.pid, 9)
            done.communicate()
            raise Failure(f"hangs: not over after {LIMIT_SECONDS} s") from None

    def prepare(self):
        model = self.scratch / "model"
        (self.scratch / "text").write_text((BOOKLM / "heldout.txt").read_text()[:2000])
        subprocess.run([sys.executable, ROOT / "tests/bench/make_model.py", model]
                       + [word for s in MODEL for word in ("--set", s)], check=True)
        self.job.write_text(JOB.format(model=model, out="out", text=self.scratch / "text"))
        code, log = self.start(self.scratch / "undisturbed", 1)
        if code != 0:
            raise Failure(f"the undisturbed run ends with {code}: {log}")
        self.reference = digests(self.scratch / "undisturbed")
        code, log = self.start(self.stopped, 2, RP_FAULT="fsync:1:term")
        if code != 75:
            raise Failure(f"the stopped run ends with {code}: {log}")

    def trace(self, stage):
        """(rank, kind, site, count) of every fault point that a stage passes."""
        name, out = self.scratch / f"trace-{stage}", self.scratch / f"out-{stage}"
        if stage == "resume":
            shutil.copytree(self.stopped, out)
        code, log = self.start(out, 2, RP_FAULT_TRACE=str(name))
        if code != 0:
            raise Failure(f"the traced run ends with {code}: {log}")
        for rank in (0, 1):
            for line in pathlib.Path(f"{name}.{rank}").read_text().splitlines():
                kind, site, count = line.split()
                yield rank, kind, site, int(count)

    def cases(self):
        draw = random.Random(self.args.seed)
        points = [(stage, *point) for stage in ("run", "resume") for point in self.trace(stage)]
        points = [p for p in points if self.args.only in f"{p[2]} {p[3]}"]
        draw.shuffle(points)
        if self.args.soak:
            for stage, rank, kind, site, count in points:
                for n in sorted({1, min(2, count), count}):
                    for every in (False, True):
                        yield Case(stage, rank, kind, site, n, every)
            return
        seen = set()
        for stage, rank, kind, site, count in points:
            if (kind, site) not in seen:
                seen.add((kind, site))
                yield Case(stage, rank, kind, site, 1, False)

    def check_end(self, case, code, log):
        lines = [line for line in log.splitlines() if not line.startswith("rankpress: warning: ")]
        if self.args.what == "kill":
            if code not in (0, 137, 205):
                raise Failure(f"exit code {code}: {log}")
            return
        allowed = CODES_OF_ERROR.get(self.args.what, CODES[case.kind]) | {0}
        if case.kind in ("alloc", "json", "thread"):
            allowed = CODES[case.kind] | {0}
        if code not in allowed:
            raise Failure(f"exit code {code}, not of {sorted(allowed)}: {log}")
        if code == 0 and lines:
            raise Failure(f"a message, but exit code 0: {log}")
        if code != 0 and (len(lines) != 1 or not lines[0].startswith("rankpress: ")):
            raise Failure(f"not one message but {len(lines)}: {log}")

    def check_whole(self, out):
        for name, digest in digests(out).items():
            if self.reference.get(name) != digest:
                raise Failure(f"{name} has its final name and is not whole")

    def check_done(self, out):
        found = digests(out)
        if found != self.reference:
            names = {n for n in found.keys() | self.reference.keys()
                     if found.get(n) != self.reference.get(n)}
            raise Failure(f"other bytes than undisturbed: {sorted(names)}")
        left = [str(p) for p in out.rglob("*") if LEFT_OVER.search(p.name)]
        if left:
            raise Failure(f"left behind: {left}")

    def run_case(self, index, case):
        out = self.scratch / f"case-{index}"
        if case.stage == "resume":
            shutil.copytree(self.stopped, out)
        fault = f"{case.kind}@{case.site}:{case.n}" + (":every" if case.every else "")
        if self.args.what:
            fault += f":{self.args.what}"
        code, log = self.start(out, 2, RP_FAULT=fault, RP_FAULT_RANK=str(case.rank))
        self.check_end(case, code, log)
        if code != 0:
            self.check_whole(out)
            again, log = self.start(out, 1 + index % 2)
            if again != 0:
                raise Failure(f"after {code}, going on ends with {again}: {log}")
        elif case.site.startswith("jobs/lock.c"):
            self.start(out, 1)  # a lock that could not be read is not removed: it is stale by now
        self.check_done(out)
        shutil.rmtree(out)
        return code

    def try_case(self, index, case, end_seconds):
        if time.monotonic() > end_seconds:
            return None, None
        try:
            return self.run_case(index, case), None
        except Failure as failure:
            return -1, str(failure)

    def run(self):
        self.prepare()
        begin = time.monotonic()
        cases = list(self.cases())
        codes, failures = collections.Counter(), []
        with concurrent.futures.ThreadPoolExecutor(self.args.jobs) as pool:
            outcomes = pool.map(lambda c: self.try_case(*c, begin + self.args.seconds),
                                enumerate(cases))
            for index, (case, (code, failure)) in enumerate(zip(cases, outcomes)):
                codes[code] += 1
                if failure:
                    print(f"case {index} {case}: {failure}", flush=True)
                    failures.append(failure)
        sites = {(c.kind, c.site) for c in cases}
        print(f"{len(sites)} sites, {len(cases)} failures of them, {codes.pop(None, 0)} left out, "
              f"{self.n_runs} runs, {time.monotonic() - begin:.0f} s, seed {self.args.seed}; "
              f"exit codes {dict(sorted(codes.items()))}")
        return len(failures)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("scratch")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--what", default="")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 15))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1e9)
    args = parser.parse_args()
    sys.exit(1 if Loop(args).run() else 0)


main()
