#!/usr/bin/env python3
"""Compares what the ranks of a run logged of each layer with what `rankpress plan --json` says.

usage: traffic.py LOG-FOLDER PLAN.json RANKS LAYERS
"""
import json
import pathlib
import sys


def logged(folder):
    """(rank, layer) -> calls, bytes sent, bytes received."""
    counts = {}
    for path in pathlib.Path(folder).glob("rank-*.jsonl"):
        for event in map(json.loads, path.read_text().splitlines()):
            if event["event"] == "layer":
                counts[event["rank"], event["layer"]] = (
                    event["calls"], event["sent_bytes"], event["received_bytes"])
    return counts


def planned(path):
    layers = json.loads(pathlib.Path(path).read_text())["traffic"]["layers"]
    return {(rank, number): (layer["calls"], sent, received)
            for number, layer in enumerate(layers)
            for rank, (sent, received) in enumerate(zip(layer["sent_bytes"],
                                                        layer["received_bytes"]))}


def main():
    log, plan, nranks, n_layers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    counts, want = logged(log), planned(plan)
    wrong = 0
    for rank in range(nranks):
        for layer in range(n_layers):
            got = counts.pop((rank, layer), None)
            if got is None or got != want.get((rank, layer)):
                print(f"rank {rank}, layer {layer}: logged {got}, planned {want.get((rank, layer))}")
                wrong += 1
    if counts:
        print(f"logged beside them: {sorted(counts)}")
    sys.exit(bool(wrong or counts))


main()
