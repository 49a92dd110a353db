# A job that is asked to stop at any block or tile saves what is finished, in the middle of a layer
# too, and goes on from there: on any number of ranks, to the bytes of a run that nobody disturbed.
# The fault point "stop" makes the n-th look at the stop flag find it set, on every rank.

setup_file() {
    load common
    export STOP_DIR=$BATS_FILE_TMPDIR
    write_stop_job "$STOP_DIR/job.yaml" "$STOP_DIR/undisturbed"
    alone run "$STOP_DIR/job.yaml" >"$STOP_DIR/undisturbed.log" 2>&1
    digests "$STOP_DIR/undisturbed" >"$STOP_DIR/reference"
    figures "$STOP_DIR/undisturbed" >"$STOP_DIR/figures"
}

setup() {
    load common
}

# write_stop_job FILE OUT: every stage of a job, and both kinds of statistics
write_stop_job() {
    cat >"$1" <<JOB
model: $booklm
output:
  dir: $2
  imatrix: imatrix.gguf
  formats: [{gptq: {}}, {gguf: {type: Q4_K_M}}]
calibration: {text: $booklm/calibration.txt, num_calibration_samples: 12, max_seq_length: 64, block_tokens: 64}
recipe:
  - gptq: {targets: [Linear], ignore: [lm_head, 're:.*down_proj'], scheme: W4A16, group_size: 32}
  - rtn: {targets: ['re:.*down_proj'], scheme: W8A16, group_size: 32}
evaluate: {text: $booklm/calibration.txt, context: 64, max_windows: 6, metrics: [perplexity, kl_divergence]}
JOB
}

# figures OUT: what was measured on the written files, digit by digit
figures() {
    python3 -c 'import json, sys
r = json.load(open(sys.argv[1]))
print(r["source"].get("evaluation"), [o.get("evaluation") for o in r["outputs"]])' "$1/report.json"
}

# parts OUT: kinds of units that only a stop leaves
parts() {
    grep -o '"\(passing/part/[^"]*\|passing/full_inputs/[^"]*\|evaluation/[^"]*\)"' "$1/checkpoint/manifest.json" 2>/dev/null |
        sed 's/[0-9]\+/N/g' | sort -u
}

# stop_at N NRANKS OUT ARG...: runs until the n-th look; exit code 75, or 0 when it was done before
stop_at() {
    local nth=$1 nranks=$2 out=$3
    shift 3
    code=0
    RP_FAULT=stop:$nth on_ranks "$nranks" run "$STOP_DIR/job.yaml" "output.dir=$out" \
        "$@" >>"$out.log" 2>&1 || code=$?
}

# goes_on_from NTH PARTIAL NRANKS THEN_NRANKS
goes_on_from() {
    local out=$STOP_DIR/at-$1-$2
    stop_at "$1" "$3" "$out" "cluster.checkpoint.partial=$2"
    [ "$code" = 75 ] || [ "$code" = 0 ] || { cat "$out.log" && return 1; }
    if [ "$code" = 75 ]; then
        [ "$(grep -c '^rankpress:' "$out.log")" = 1 ]
        grep -q '^rankpress: stopped by a request .*; go on with: rankpress resume ' "$out.log"
        [ -z "$(find "$out" -name '*.part')" ]
        on_ranks "$4" resume "$out" >>"$out.log" 2>&1
    fi
    same_digests "$out" "$STOP_DIR/reference"
    ! parts "$out" | grep part/
    [ "$(figures "$out")" = "$(cat "$STOP_DIR/figures")" ]
    rm -rf "$out" "$out.log"
}

@test "stopped at the n-th look, resumed on another number of ranks: the same bytes and figures" {
    [ -s "$STOP_DIR/reference" ]
    step=83
    [ "${RP_TEST_SOAK:-0}" = 0 ] || step=13
    ranks=(1 2 3)
    i=0
    while :; do
        nth=$((7 + i * step))
        goes_on_from "$nth" always "${ranks[i % 3]}" "${ranks[(i + 1) % 3]}"
        echo "stopped at $nth: exit code $code"
        [ "$code" = 75 ] || break
        i=$((i + 1))
    done
    [ "$i" -ge 8 ]
}

# has_kinds FILE KIND...
has_kinds() {
    local file=$1 kind
    shift
    sort -u "$file"
    for kind in "$@"; do
        grep -qF "\"$kind\"" "$file"
    done
}

@test "sums, tiles, streams and figures are what a stop saves" {
    kinds=$STOP_DIR/kinds
    for nth in $(seq 100 4 170); do # one layer has about so many looks
        out=$STOP_DIR/kinds-$nth
        stop_at "$nth" 1 "$out" cluster.checkpoint.partial=always cluster.threads=1
        [ "$code" = 75 ]
        parts "$out" >>"$kinds"
    done
    has_kinds "$kinds" passing/part/N/N/gram/done passing/part/N/N/gram/max_abs passing/part/N/N/gram/sum/N \
        passing/part/N/N/tile/N passing/part/N/N/tile/N/loss passing/full_inputs/N/N/N
    on_ranks 2 resume "$out" >>"$out.log" 2>&1
    for nth in $(seq 60 4 400); do # what comes after the layers; the last dozen looks are evaluation's
        rm -f "$out/report.json"
        stop_at "$nth" 1 "$out"
        parts "$out" >>"$kinds"
        ! grep -qF '"evaluation/' "$kinds" || break
        [ "$code" = 75 ] || { echo "looks: $nth, exit code $code" && tail "$out.log" && false; }
    done
    has_kinds "$kinds" evaluation/source
    rm -f "$out/report.json"
    on_ranks 2 resume "$out" >>"$out.log" 2>&1
    [ "$(figures "$out")" = "$(cat "$STOP_DIR/figures")" ]
}

@test "many stops, each a little later: every run gets further" {
    out=$STOP_DIR/many
    code=75
    stops=0
    while [ "$code" = 75 ]; do
        stop_at 150 $((1 + stops % 3)) "$out" cluster.checkpoint.partial=always
        stops=$((stops + 1))
        [ "$stops" -lt 40 ]
    done
    echo "$stops runs"
    [ "$code" = 0 ] && [ "$stops" -ge 4 ]
    same_digests "$out" "$STOP_DIR/reference"
}

@test "a walltime shorter than stop_seconds leaves half of itself for work" {
    out=$STOP_DIR/walltime
    code=0
    on_ranks 2 run "$STOP_DIR/job.yaml" "output.dir=$out" cluster.walltime=1s >"$out.log" 2>&1 || code=$?
    [ "$code" = 75 ] || [ "$code" = 0 ]
    [ "$code" = 0 ] || grep -q 'stopped by the time limit' "$out.log"
    on_ranks 2 run "$STOP_DIR/job.yaml" "output.dir=$out" >>"$out.log" 2>&1
    same_digests "$out" "$STOP_DIR/reference"
}
