#!/usr/bin/env python3
"""Feeds the program files with random damage; it may refuse or accept them, never crash.

usage: fuzz_files.py RANKPRESS WORK_FOLDER COUNT SEED FILE -- COMMAND...

COMMAND is the program's arguments, with FILE standing for the damaged copy. An exit code outside
0, 1, 65, 71, 74 and 78, a sanitizer's report, more than one line of message or 20 seconds is a
failure; the damaged file is then kept in WORK_FOLDER and named. Standard library only.
"""
import pathlib
import random
import re
import shutil
import subprocess
import sys

GOOD_CODES = {0, 1, 65, 71, 74, 78}
NUMBERS = [b"0", b"-1", b"4294967295", b"9223372036854775807", b"18446744073709551616", b"1e999"]


def flip_bits(raw, rng):
    for _ in range(rng.randint(1, 8)):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def cut(raw, rng):
    del raw[rng.randrange(len(raw)):]


def remove_span(raw, rng):
    begin = rng.randrange(len(raw))
    del raw[begin:begin + rng.randint(1, 64)]


def repeat_span(raw, rng):
    begin = rng.randrange(len(raw))
    span = raw[begin:begin + rng.randint(1, 64)]
    raw[begin:begin] = span * rng.randint(1, 4)


def set_word(raw, rng):
    """A little-endian number at the extremes over four or eight bytes."""
    nbytes = rng.choice((4, 8))
    begin = rng.randrange(len(raw))
    value = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)) & (2**(8 * nbytes) - 1)
    raw[begin:begin + nbytes] = value.to_bytes(nbytes, "little")


def change_number(raw, rng):
    found = list(re.finditer(rb"\d+", bytes(raw[:1 << 16])))
    if found:
        where = rng.choice(found)
        raw[where.start():where.end()] = rng.choice(NUMBERS)


DAMAGES = [flip_bits, cut, remove_span, repeat_span, set_word, change_number]


def damage(raw, rng):
    raw = bytearray(raw)
    head = bytearray(raw[:4096])  # headers decide: most of the damage goes there
    target, rest = (head, raw[4096:]) if rng.random() < 0.8 else (raw, b"")
    for _ in range(rng.randint(1, 3)):
        if target:
            rng.choice(DAMAGES)(target, rng)
    return bytes(target) + bytes(rest)


def complaint(command):
    """What is wrong with how the program took it, or None."""
    try:
        result = subprocess.run(command, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "takes more than 20 s"
    message = result.stderr.decode("utf-8", "replace")
    if result.returncode not in GOOD_CODES:
        return f"exit code {result.returncode}: {message[-2000:]}"
    if "Sanitizer" in message or "runtime error" in message:
        return message[-2000:]
    if result.returncode not in (0, 1) and (message.count("\n") != 1 or not message.endswith("\n")):
        return f"not one line of message: {message[-2000:]}"
    if re.search(r"[\x00-\x09\x0b-\x1f\x7f]", message):
        return f"control characters in the message: {message[-2000:]!r}"
    return None


def main():
    program, work, count, seed, source, _, *words = sys.argv[1:]
    work, source = pathlib.Path(work), pathlib.Path(source)
    original = source.read_bytes()
    rng = random.Random(f"{seed} {source.name}")
    copy = work / source.name
    for i in range(int(count)):
        copy.write_bytes(damage(original, rng))
        problem = complaint([program, *(w.replace("FILE", str(copy)) for w in words)])
        if problem:
            kept = work / f"kept-{i}-{source.name}"
            shutil.copyfile(copy, kept)
            sys.exit(f"{kept}: {problem}")
    copy.unlink()


main()
