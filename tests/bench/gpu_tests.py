#!/usr/bin/env python3
"""Prints the tests of a build folder that compute on a GPU, a line each: name and command, quoted for a shell.

usage: gpu_tests.py BUILD [--stand-in] [--pack DIR]

  --stand-in  those on the stand-in of tests/cuda_host, in place of those on a GPU
  --pack      copies programs to DIR/bin, and files of the source tree that are arguments to DIR/tree;
              the commands are then relative to DIR
Standard library only.
"""
import argparse
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys


def source_of(build):
    """The source tree that a build folder is of."""
    found = re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", (build / "CMakeCache.txt").read_text(), re.M)
    return pathlib.Path(found[1]).resolve()


def commands(build, is_stand_in):
    """Name and words of every test."""
    label, ending = ("cuda_host", "_host") if is_stand_in else ("gpu", "_gpu")
    shown = subprocess.run(["ctest", "--test-dir", str(build), "-L", f"^{label}$", "--show-only=json-v1"],
                           check=True, stdout=subprocess.PIPE).stdout
    for test in json.loads(shown)["tests"]:
        if not test["name"].endswith(ending):
            continue
        if "command" not in test or not pathlib.Path(test["command"][0]).exists():
            sys.exit(f"gpu_tests: {test['name']} is not built in {build}")
        yield test["name"], test["command"]


def pack(words, source, folder):
    """The command as it is from `folder`, to which its program and files of `source` are copied."""
    program, packed = pathlib.Path(words[0]), []
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    subprocess.run(["strip", "-o", str(folder / "bin" / program.name), str(program)], check=True)
    for word in words[1:]:
        path = pathlib.Path(word)
        if path.is_absolute() and path.exists():
            to = pathlib.Path("tree") / path.resolve().relative_to(source)
            if path.is_dir():
                shutil.copytree(path, folder / to, dirs_exist_ok=True)
            else:
                (folder / to).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / to)
            word = str(to)
        packed.append(word)
    return [f"bin/{program.name}", *packed]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--pack", type=pathlib.Path)
    args = parser.parse_args()
    for name, words in commands(args.build, args.stand_in):
        print(name, shlex.join(pack(words, source_of(args.build), args.pack) if args.pack else words))


main()
