#!/usr/bin/env python3
"""Prints the table of scripts/bench-peers from the folder with its JSON files."""
import json
import pathlib
import sys


def load(path):
    return json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}


def main():
    work = pathlib.Path(sys.argv[1])
    quality = {}
    if (work / "quality.jsonl").exists():
        for line in (work / "quality.jsonl").read_text().splitlines():
            if line.startswith("{"):
                row = json.loads(line)
                quality[pathlib.Path(row["out"]).relative_to(work).parts[0]
                        if row["out"].startswith(str(work)) else "base"] = row
    print("| file | bytes | mean KL x 1e-3 | excess nats x 1e-3 | top-1 | compress s | whole s | peak MB a process |")
    print("|" + " --- |" * 8)
    for name in ("rankpress-1-f32", "rankpress-2-f32", "rankpress-2-bf16", "llmc", "gptqmodel"):
        row, run = quality.get(name, {}), load(work / f"{name}.json")
        report = load(work / name / "report.json")
        peak = run.get("peak_mb", report.get("peak_bytes_per_rank", 0) // 2**20)
        # A peer's whole time is loading its packages and the model, compressing and saving.
        whole = run.get("whole_s", round(sum(run.get(key, 0) for key in (
            "import_load_s", "compress_s", "save_s")), 1))
        cells = [run.get("peer", name), row.get("bytes", ""),
                 f"{1e3 * row['mean_kl']:.2f}" if "mean_kl" in row else "",
                 f"{1e3 * row['excess_nats']:.2f}" if "excess_nats" in row else "",
                 f"{row['top1']:.3f}" if "top1" in row else "", run.get("compress_s", ""), whole,
                 peak or ""]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


main()
