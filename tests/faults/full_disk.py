#!/usr/bin/env python3
"""Fills the disk of a small job that is under way, to leave it every few bytes less.

usage: full_disk.py BUILD SCRATCH COUNT [--fs tmpfs|ext2] [--seed N]

Each run on a disk of 64 MB is stopped when its first checks are behind it; then all but k steps of
the room that it needs is taken (ext2 cannot reserve room: writes fail inside HDF5, too), and it goes
on. It must end with 74 and one message, or well; when there is room again the next run ends with
the bytes of an undisturbed one. Exit code 77: mounting is not allowed here.
"""
import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

from kill_ranks import ranks_of
from small_job import Failure, SmallJob

DISK_BYTES = 64 << 20
BLOCK_BYTES = 4096


@contextlib.contextmanager
def small_disk(scratch, kind):
    """The folder of a mounted disk; None where that is not allowed."""
    folder, image = scratch / "disk", scratch / "image"
    folder.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder]
    else:
        image.write_bytes(b"")
        os.truncate(image, DISK_BYTES)
        made = subprocess.run(["mkfs.ext2", "-q", "-m", "0", "-b", str(BLOCK_BYTES), image],
                              capture_output=True)
        command = ["mount", "-o", "loop", image, folder] if made.returncode == 0 else ["false"]
    if subprocess.run(command, capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def is_stopped(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
    except OSError:
        return False


def wait_for_stop(process, program):
    for _ in range(6000):
        stopped = [p for p in ranks_of(process.pid, program) if is_stopped(p)]
        if stopped or process.poll() is not None:
            return stopped
        time.sleep(0.01)
    return []


def free_bytes(folder):
    info = os.statvfs(folder)
    return info.f_bavail * info.f_frsize


def used_bytes(folder):
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*"))


def fill(folder, left_bytes):
    """A file that leaves so much room, or a little less."""
    with open(folder / "filler", "wb", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while free_bytes(folder) > left_bytes:
                filler.write(bytes(min(1 << 20, max(BLOCK_BYTES, free_bytes(folder) - left_bytes))))


def run_on_full_disk(job, disk, left_bytes, index):
    """Exit code of the run that finds no more room than that."""
    out = disk / "out"
    process = job.popen(out, 1 + index % 2, RP_FAULT="log:1:stop", RP_FAULT_RANK="0")
    stopped = wait_for_stop(process, job.program)
    fill(disk, left_bytes)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    code, log = job.wait(process)
    # Open MPI may say that its write failed, in a line of its own.
    lines = [line for line in log.splitlines() if not line.startswith("mca_fbtl_")]
    if not stopped:
        raise Failure(f"did not stop: {code}: {log}")
    if code != 0 and (code != 74 or len(lines) != 1 or not lines[0].startswith("rankpress: ")):
        raise Failure(f"exit code {code}: {log}")
    job.check_whole(out)
    (disk / "filler").unlink()
    job.expect(0, out, 1 + index // 2 % 2)
    job.check_done(out)
    shutil.rmtree(out)
    return code


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("scratch", type=pathlib.Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--fs", choices=["tmpfs", "ext2"], default="tmpfs")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 15))
    args = parser.parse_args()
    job = SmallJob(args.build, args.scratch)
    job.prepare()
    begin = time.monotonic()
    codes, n_failures = collections.Counter(), 0
    with small_disk(args.scratch, args.fs) as disk:
        if disk is None:
            print(f"cannot mount a small {args.fs}")
            sys.exit(77)
        needed = used_bytes(args.scratch / "undisturbed")
        draw = random.Random(args.seed)
        for index in range(args.count):
            left = int(needed * (index + draw.random()) / args.count) // BLOCK_BYTES * BLOCK_BYTES
            try:
                codes[run_on_full_disk(job, disk, left, index)] += 1
            except Failure as failure:
                print(f"{left} bytes left: {failure}", flush=True)
                n_failures += 1
                for path in disk.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{args.count} amounts of room up to {needed} bytes on {args.fs}, {n_failures} failures, "
          f"{time.monotonic() - begin:.0f} s, seed {args.seed}; exit codes "
          f"{dict(sorted(codes.items()))}")
    sys.exit(1 if n_failures else 0)


main()
