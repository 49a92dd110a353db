#!/usr/bin/env python3
"""Damages files of a stopped job's checkpoint, one place at a time, and goes on with the job.

usage: damage_files.py BUILD SCRATCH COUNT [--seed N]

A byte is flipped, or a file cut or removed, anywhere in the pieces and manifests. The job must go on
and end with the bytes of an undisturbed run; damage that costs something is warned of.
"""
import argparse
import pathlib
import random
import shutil
import sys
import time

from small_job import Failure, SmallJob, events

N_LAYERS = 4


def damage(draw, folder):
    """Damages one file; says what it did."""
    path = draw.choice(sorted(folder.iterdir()))
    data = bytearray(path.read_bytes())
    kind, at = draw.randrange(10), draw.randrange(len(data))
    if kind == 0:
        path.unlink()
        return f"{path.name} removed"
    if kind <= 2:
        path.write_bytes(data[:at])
        return f"{path.name} cut to {at} bytes"
    data[at] ^= draw.randrange(1, 256)
    path.write_bytes(data)
    return f"{path.name} flipped at {at}"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("scratch")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 15))
    args = parser.parse_args()
    draw = random.Random(args.seed)
    job = SmallJob(args.build, args.scratch, N_LAYERS)
    job.prepare()
    stopped = job.scratch / "stopped"
    job.stop(stopped, 2)
    begin = time.monotonic()
    n_failures = n_warned = 0
    for index in range(args.count):
        out = job.scratch / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(stopped, out)
        what = damage(draw, out / "checkpoint")
        try:
            job.expect(0, out, 1 + index % 2)
            n_warned += any(events(out, "warning"))
            job.check_done(out)
        except Failure as failure:
            print(f"{index}: {what}: {failure}", flush=True)
            n_failures += 1
    print(f"{args.count} places damaged, {n_warned} warned of, {n_failures} failures, "
          f"{time.monotonic() - begin:.0f} s, seed {args.seed}")
    sys.exit(1 if n_failures else 0)


main()
