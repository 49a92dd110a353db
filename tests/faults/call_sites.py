#!/usr/bin/env python3
"""Fails every call site of a small job on two ranks, one at a time, and goes on afterwards.

usage: call_sites.py BUILD SCRATCH [--soak] [--only PATTERN]... [--what NAME] [--seed N] [--jobs N]
                                   [--seconds N]

A traced run tells the fault points that a fresh job and a resumed one pass on each rank, and how
often. Each is failed in a run of its own, a fresh one if it passes there: the first time on one rank; with --soak the first, the
second and the last time, once and for ever from there, on either rank. Every run must end in time
with one message and the exit code of such a failure, nothing half-written under a final name, and
the next run of the job must end with the bytes of an undisturbed one.

  --only     sites whose "kind file:line" contains one of these
  --what     an error's name instead of EIO, or kill: the rank ends there without a word
  --seconds  starts no more runs after so long and says how many were left out
"""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import random
import shutil
import sys
import time

from small_job import Failure, SmallJob

MEMORY, IO = {71}, {74}
# What a failure of a kind of call may end with beside 0: where it costs nothing, or only a warning.
CODES = {"alloc": MEMORY, "json": MEMORY, "thread": MEMORY, "stop": {75}}
CODES_OF_ERROR = {"EACCES": {77}, "EROFS": {77}, "ENOMEM": MEMORY}
CODES_OF_KILL = {0, 137, 205}  # the launcher's

Case = collections.namedtuple("Case", "stage rank kind site n every")


class Loop:
    def __init__(self, args):
        self.args = args
        self.scratch = pathlib.Path(args.scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.job = SmallJob(args.build, args.scratch)
        self.stopped = self.scratch / "stopped"

    def trace(self, stage):
        """(rank, kind, site, count) of every fault point that a stage passes."""
        name, out = self.scratch / f"trace-{stage}", self.scratch / f"out-{stage}"
        if stage == "resume":
            shutil.copytree(self.stopped, out)
        self.job.expect(0, out, 2, RP_FAULT_TRACE=str(name))
        for rank in (0, 1):
            for line in pathlib.Path(f"{name}.{rank}").read_text().splitlines():
                kind, site, count = line.split()
                yield rank, kind, site, int(count)

    def is_chosen(self, point):
        return not self.args.only or any(pattern in point for pattern in self.args.only)

    def cases(self):
        points = [(stage, *point) for stage in ("run", "resume") for point in self.trace(stage)]
        fresh = {point[1:4] for point in points if point[0] == "run"}
        points = [p for p in points if self.is_chosen(f"{p[2]} {p[3]}")
                  and (p[0] == "run" or p[1:4] not in fresh)]
        draw = random.Random(self.args.seed)
        draw.shuffle(points)
        for stage, rank, kind, site, count in points:
            if kind == "json":  # of one site, but many callers
                for _ in range(40 if self.args.soak else 4):
                    yield Case(stage, rank, kind, site, count - draw.randrange(min(count, 8000)), 0)
        if self.args.soak:
            for stage, rank, kind, site, count in points:
                for n in sorted({1, min(2, count), count}):
                    for every in (False, True):
                        yield Case(stage, rank, kind, site, n, every)
            return
        seen = set()
        for stage, rank, kind, site, _ in points:
            if (kind, site) not in seen:
                seen.add((kind, site))
                yield Case(stage, rank, kind, site, 1, False)

    def check_end(self, case, code, log):
        lines = [line for line in log.splitlines() if not line.startswith("rankpress: warning: ")]
        if self.args.what == "kill":
            if code not in CODES_OF_KILL:
                raise Failure(f"exit code {code}: {log}")
            return
        allowed = CODES.get(case.kind) or CODES_OF_ERROR.get(self.args.what, IO)
        if code != 0 and code not in allowed:
            raise Failure(f"exit code {code}, not 0 or of {sorted(allowed)}: {log}")
        if code == 0 and lines:
            raise Failure(f"a message, but exit code 0: {log}")
        if code != 0 and (len(lines) != 1 or not lines[0].startswith("rankpress: ")):
            raise Failure(f"not one message but {len(lines)}: {log}")

    def run_case(self, index, case):
        out = self.scratch / f"case-{index}"
        if case.stage == "resume":
            shutil.copytree(self.stopped, out)
        fault = f"{case.kind}@{case.site}:{case.n}" + (":every" if case.every else "")
        if self.args.what:
            fault += f":{self.args.what}"
        code, log = self.job.start(out, 2, RP_FAULT=fault, RP_FAULT_RANK=str(case.rank))
        self.check_end(case, code, log)
        if code != 0:
            self.job.check_whole(out)
            self.job.expect(0, out, 1 + index % 2)
        elif case.site.startswith("jobs/lock.c"):
            self.job.start(out, 1)  # a lock that cannot be read is left; by now it is stale
        self.job.check_done(out)
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
        self.job.prepare()
        self.job.stop(self.stopped, 1)
        begin = time.monotonic()
        cases = list(self.cases())
        codes, n_failures = collections.Counter(), 0
        with concurrent.futures.ThreadPoolExecutor(self.args.jobs) as pool:
            outcomes = pool.map(lambda c: self.try_case(*c, begin + self.args.seconds),
                                enumerate(cases))
            for index, (case, (code, failure)) in enumerate(zip(cases, outcomes)):
                codes[code] += 1
                if failure:
                    print(f"case {index} {case}: {failure}", flush=True)
                    n_failures += 1
        left_out = codes.pop(None, 0)
        print(f"{len({(c.kind, c.site) for c in cases})} sites, {len(cases) - left_out} failures of "
              f"them, {left_out} left out, {self.job.n_runs} runs, "
              f"{time.monotonic() - begin:.0f} s, seed {self.args.seed}; "
              f"exit codes {dict(sorted(codes.items()))}")
        return n_failures


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("scratch")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--what", default="")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 15))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1e9)
    args = parser.parse_args()
    sys.exit(1 if Loop(args).run() else 0)


main()
