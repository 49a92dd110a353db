#!/usr/bin/env python3
"""Our logits against those that the installed transformers computes now, on fresh random models of
every family and on the trained ones, by tests/model/make_golden.py and its C test. --peers only."""
import pathlib
import subprocess
import sys
import tempfile

from program import parser

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    args = parser().parse_args()
    if not args.peers:
        print("needs --peers (torch and transformers)")
        sys.exit(77)
    sys.path.insert(0, str(ROOT / "tests" / "model"))
    import make_golden

    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch)
        pairs = []
        for seed, (name, keys) in enumerate(make_golden.MODELS.items(), 1000):
            make_golden.make_random(out, name, keys, seed)
            pairs += [out / name, out / name / "golden.json"]
        for seed, (name, source) in enumerate(make_golden.TRAINED.items(), 2000):
            if source.is_dir():
                make_golden.make_trained(out, name, source, seed)
                pairs += [source, out / name / "golden.json"]
        result = subprocess.run([pathlib.Path(args.build) / "tests" / "model" / "test_logits", *pairs],
                                check=False)
    print(f"{len(pairs) // 2} models compared")
    sys.exit(result.returncode)


main()
