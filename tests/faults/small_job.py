"""A job of a quarter of a second, to be disturbed and gone on with. Standard library only."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKLM = ROOT / "examples/models/booklm"
LIMIT_SECONDS = 60
MODEL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
         "num_key_value_heads": 2}
JOB = """
model: {model}
output:
  dir: out
  imatrix: imatrix.gguf
  formats: [{{gptq: {{}}}}, {{gguf: {{type: Q8_0, max_shard_size: 200kB}}}}]
calibration: {{text: {text}, num_calibration_samples: 4, max_seq_length: 32}}
recipe:
  - gptq: {{targets: [Linear], ignore: [lm_head], scheme: W4A16, group_size: 32}}
evaluate: {{text: {eval_text}, context: 32, max_windows: 2}}
gates: [{{fallbacks: 0}}]
"""
FINAL = re.compile(r"\.(gguf|safetensors|safetensors\.index\.json)$|^(quantize_)?config\.json$")
LEFT_OVER = re.compile(r"\.(part|tmp)$|^\.lock|^token\.")


class Failure(Exception):
    """What a run did that it must not."""


def digests(folder):
    """Path -> hash of the files that others load."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if (FINAL.search(path.name) and path.is_file() and name.parts[0] != "checkpoint"
                and not any(part.endswith(".part") for part in name.parts)):
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def manifest(out):
    """The newest one's body; None: there is none."""
    path = out / "checkpoint/manifest.json"
    return json.loads(path.read_text())["body"] if path.exists() else None


def events(out, name):
    """Of the ranks' logs, of all runs of the job so far."""
    for path in sorted(out.glob("log/rank-*.jsonl")):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event.get("event") == name:
                yield event


class SmallJob:
    """The job's files in a scratch folder, and what its undisturbed run wrote."""

    def __init__(self, build, scratch, n_layers=2):
        self.program = pathlib.Path(build) / "jobs/rankpress"
        self.scratch = pathlib.Path(scratch)
        self.file = self.scratch / "job.yaml"
        self.n_layers = n_layers
        self.reference = {}
        self.n_runs = 0
        self.lock = threading.Lock()

    def prepare(self):
        model = self.scratch / "model"
        eval_text = self.scratch / "text"
        eval_text.write_text((BOOKLM / "heldout.txt").read_text()[:2000])
        changes = MODEL | {"num_hidden_layers": self.n_layers}
        subprocess.run([sys.executable, ROOT / "tests/bench/make_model.py", model]
                       + [word for key, n in changes.items() for word in ("--set", f"{key}={n}")],
                       check=True)
        self.file.write_text(JOB.format(model=model, text=BOOKLM / "calibration.txt",
                                        eval_text=eval_text))
        self.expect(0, self.scratch / "undisturbed", 1)
        self.reference = digests(self.scratch / "undisturbed")

    def popen(self, out, nranks, launcher=(), **env):
        command = [self.program, "run", self.file, f"output.dir={out}", "--quiet"]
        if nranks > 1:
            command = [ROOT / "scripts/mpirun", "-n", str(nranks)] + command
        with self.lock:
            self.n_runs += 1
            shared = self.scratch / "shared" / str(self.n_runs)
        # What a killed rank leaves of Open MPI's shared memory must not meet a later run of the
        # same number, and goes with the scratch folder.
        shared.mkdir(parents=True, exist_ok=True)
        env["OMPI_MCA_btl_vader_backing_directory"] = str(shared)
        return subprocess.Popen([*launcher, *command], env=os.environ | env, text=True,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                start_new_session=True)

    @staticmethod
    def wait(process):
        """Exit code and standard error."""
        try:
            log = process.communicate(timeout=LIMIT_SECONDS)[1]
            return process.returncode, log
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            log = process.communicate()[1]
            raise Failure(f"hangs: not over after {LIMIT_SECONDS} s: {log}") from None

    def start(self, out, nranks, **env):
        return self.wait(self.popen(out, nranks, **env))

    def expect(self, code, out, nranks, **env):
        got, log = self.start(out, nranks, **env)
        if got != code:
            raise Failure(f"exit code {got}, not {code}: {log}")
        return log

    def stop(self, out, n_commits):
        """Leaves the folder of a run on two ranks that was stopped after so many commits or more."""
        for n in range(1, 50):
            shutil.rmtree(out, ignore_errors=True)
            code, log = self.start(out, 2, RP_FAULT=f"rename:{n}:term")
            if code == 75 and (manifest(out) or {}).get("generation", 0) >= n_commits:
                return
        raise Failure(f"no stop after {n_commits} commits, the last ends with {code}: {log}")

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
