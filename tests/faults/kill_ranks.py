#!/usr/bin/env python3
"""Kills ranks of a small job at random moments, or asks them to stop, and goes on on other numbers.

usage: kill_ranks.py BUILD SCRATCH COUNT [--seed N] [--signal KILL|TERM]

Of a run on one to four ranks one rank is killed (-9), every fourth time all of them, at a moment
between its start and its end. With TERM all ranks get the signal. Then the job goes on on one to
four ranks. Nothing that a manifest named may be done again or differ; beside the layer in hand, a kill
may cost the one whose files were being finished, SIGTERM none; and the output has the bytes of an undisturbed
run.
"""
import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import sys
import time

from small_job import LEFT_OVER, Failure, SmallJob, events, manifest

N_LAYERS = 4


def children(pid):
    """Processes below a process."""
    try:
        below = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [p for child in map(int, below) for p in [child, *children(child)]]


def ranks_of(pid, program):
    """The processes of the program among pid and those below it."""
    found = []
    for p in [pid, *children(pid)]:
        try:
            if os.readlink(f"/proc/{p}/exe") == str(program.resolve()):
                found.append(p)
        except OSError:
            pass
    return found


def committed(out):
    """(unit, row0) -> (file, hash) of the newest manifest."""
    body = manifest(out)
    if body is None:
        return {}
    return {(unit, piece["row0"]): (body["files"][piece["file"]]["name"], piece["xxh3"])
            for unit, value in body["units"].items() for piece in value["pieces"]}


def solved_layers(out):
    """How often each was solved."""
    return collections.Counter(e["layer"] for e in events(out, "layer")
                               if e["rank"] == 0 and e["solved"])


def check_kept(before, now):
    """What was committed for good is there as it was; activations at a border are for a while."""
    lost = {unit for unit, piece in before.items()
            if now.get(unit) != piece and (unit in now or unit[0].startswith("layer/"))}
    if lost:
        raise Failure(f"committed units were done again: {sorted(lost)}")


class Killer:
    def __init__(self, args):
        self.draw = random.Random(args.seed)
        self.signal = getattr(signal, "SIG" + args.signal)
        self.scratch = pathlib.Path(args.scratch)
        self.job = SmallJob(args.build, args.scratch, N_LAYERS)
        self.seconds = {}
        self.n_kept = 0
        self.codes = collections.Counter()

    def prepare(self):
        self.job.prepare()
        for nranks in (1, 2, 3, 4):
            begin = time.monotonic()
            out = self.scratch / f"timed-{nranks}"
            self.job.expect(0, out, nranks)
            self.seconds[nranks] = time.monotonic() - begin
            shutil.rmtree(out)

    def strike(self, out, nranks, after, is_all):
        """Exit code of a run whose ranks, one or all, get the signal."""
        process = self.job.popen(out, nranks)
        time.sleep(after)
        ranks = ranks_of(process.pid, self.job.program)
        if ranks and not is_all:
            ranks = [self.draw.choice(ranks)]
        for rank in ranks:
            try:
                os.kill(rank, self.signal)
            except ProcessLookupError:
                pass
        return self.job.wait(process)

    def check_stop(self, out, code, log):
        """An orderly stop: done, stopped, or not yet listening; nothing in the making is left."""
        if code not in (0, 75, 128 + signal.SIGTERM, -signal.SIGTERM):
            raise Failure(f"exit code {code} after SIGTERM: {log}")
        left = [str(p) for p in out.rglob("*") if LEFT_OVER.search(p.name)]
        if code == 75 and left:
            raise Failure(f"stopped, but left behind: {left}")

    def try_once(self, index):
        nranks, later = self.draw.randint(1, 4), self.draw.randint(1, 4)
        after = self.draw.uniform(0, self.seconds[nranks])
        is_all = self.signal == signal.SIGTERM or index % 4 == 3
        out = self.scratch / f"struck-{index}"
        what = (f"{index}: {'all' if is_all else 'one'} of {nranks} ranks after {after:.2f} s, "
                f"then {later}")
        try:
            code, log = self.strike(out, nranks, after, is_all)
            self.codes[code] += 1
            if self.signal == signal.SIGTERM:
                self.check_stop(out, code, log)
            self.job.check_whole(out)
            before = committed(out)
            not_committed = {layer for layer in solved_layers(out)
                             if (f"layer/{layer}/site/3/facts", 0) not in before}
            if len(not_committed) > (0 if self.signal == signal.SIGTERM else 1):
                raise Failure(f"finished layers were not committed: {not_committed}")
            self.n_kept += len(before)
            self.job.expect(0, out, later)
            warnings = [e["text"] for e in events(out, "warning") if "taking over" not in e["text"]]
            if warnings:
                raise Failure(f"going on warns: {warnings}")
            check_kept(before, committed(out))
            again = {layer for layer, n in solved_layers(out).items() if n > 1}
            if not again <= not_committed:
                raise Failure(f"committed layers were solved again: {again - not_committed}")
            self.job.check_done(out)
        except Failure as failure:
            print(f"{what}: {failure}", flush=True)
            return 1
        shutil.rmtree(out)
        return 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("scratch")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 15))
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    args = parser.parse_args()
    killer = Killer(args)
    killer.prepare()
    begin = time.monotonic()
    n_failures = sum(killer.try_once(i) for i in range(args.count))
    print(f"{args.count} struck, {n_failures} failures, {killer.n_kept} committed pieces kept, "
          f"{time.monotonic() - begin:.0f} s, seed {args.seed}; exit codes "
          f"{dict(sorted(killer.codes.items()))}")
    sys.exit(1 if n_failures else 0)


if __name__ == "__main__":
    main()
