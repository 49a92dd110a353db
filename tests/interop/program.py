"""The program and the GGUF driver of a build, as the tests here call them."""
import argparse
import json
import pathlib
import re
import subprocess
import sys

FLOATS = ("F32", "F16", "BF16")


def parser(usage=None):
    """The arguments that `run` gives every test."""
    made = argparse.ArgumentParser(usage=usage)
    made.add_argument("--build", type=pathlib.Path, required=True)
    made.add_argument("--data", type=pathlib.Path, required=True)
    made.add_argument("--peers", action="store_true")
    return made


def call(*words, stdin=None):
    """Standard output; ends the test when the program fails."""
    result = subprocess.run([*map(str, words)], input=stdin, capture_output=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {result.stderr.decode()}")
    return result.stdout


class Program:
    def __init__(self, build):
        self.path = build / "jobs" / "rankpress"
        self.driver = build / "tests" / "interop" / "gguf_driver"

    def gguf_types(self, scratch, model):
        """What the program lists when it is asked for a type that there is not."""
        job = self.write_job(scratch, model, {"type": "none"}, {}, {})
        result = subprocess.run([self.path, "run", job], capture_output=True, text=True)
        listed = re.search(r"gguf\.type: want (.*), got", result.stderr)
        assert listed, f"no list of types: {result.stderr}"
        return re.split(r", | or ", listed[1])

    @staticmethod
    def write_job(folder, model, gguf, rtn, others):
        """A step into a float type would round to integers first."""
        step = {"rtn": {"targets": ["Linear"], "ignore": ["lm_head"], **rtn}}
        job = {"model": str(model), **others,
               "output": {"dir": str(folder / "out"),
                          "formats": [{"gguf": {**gguf, "name": "model.gguf"}}]},
               "recipe": [] if gguf["type"] in FLOATS else [step]}
        path = folder / "job.yaml"
        path.write_text(json.dumps(job))
        return path

    def quantise(self, folder, model, gguf, rtn=None, **others):
        """A file of plain rounding: gguf has the format's keys, rtn the step's, others the job's."""
        folder.mkdir(parents=True)
        call(self.path, "run", "--quiet", self.write_job(folder, model, gguf, rtn or {}, others))
        return pathlib.Path(folder / "out" / "model.gguf")
