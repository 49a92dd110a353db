# Shared by the tests here: where things are, small models and jobs, digests of what was written.
# RP_BUILD names the build folder; every run has a time limit, so a hang is exit code 124.

root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
build=${RP_BUILD:-$root/build/release}
rankpress=$build/jobs/rankpress
booklm=$root/examples/models/booklm
limit_seconds=120

# on_ranks N ARG...: the program on N ranks
on_ranks() {
    local nranks=$1
    shift
    timeout -k 5 "$limit_seconds" "$root/scripts/mpirun" -n "$nranks" "$rankpress" "$@"
}

alone() {
    timeout -k 5 "$limit_seconds" "$rankpress" "$@"
}

make_model() {
    python3 "$root/tests/bench/make_model.py" "$@"
}

# write_job FILE MODEL OUT: a job of a second or so with every kind of output
write_job() {
    cat >"$1" <<JOB
model: $2
output:
  dir: $3
  imatrix: imatrix.gguf
  formats: [{gptq: {}}, {compressed-tensors: {}}, {gguf: Q4_0}, {gguf: {type: Q8_0, max_shard_size: 200kB}}, {safetensors: {}}]
calibration:
  text: $booklm/calibration.txt
  num_calibration_samples: 12
  max_seq_length: 96
recipe:
  - gptq: {targets: [Linear], ignore: [lm_head], scheme: W4A16, group_size: 32}
gates: [{fallbacks: 0}]
JOB
}

# descendants PID: it and all below it
descendants() {
    local child
    echo "$1"
    for child in $(pgrep -P "$1"); do
        descendants "$child"
    done
}

# digests OUT: one line for each file that a run leaves for others to load
digests() {
    (cd "$1" && find . -path '*checkpoint*' -prune -o -type f \
        \( -name '*.gguf' -o -name '*.safetensors' -o -name '*.safetensors.index.json' \
        -o -name config.json -o -name quantize_config.json \) -print | sort | xargs -r sha256sum)
}

# nothing_final OUT: no file that looks finished
nothing_final() {
    [ ! -d "$1" ] || [ -z "$(digests "$1")" ]
}

# only_whole OUT REFERENCE_FILE: what has its final name is as it will be at the end
only_whole() {
    [ ! -d "$1" ] || [ -z "$(comm -23 <(digests "$1" | sort) <(sort "$2"))" ]
}

# same_digests OUT REFERENCE_FILE: says what differs
same_digests() {
    digests "$1" >"$BATS_TEST_TMPDIR/digests"
    diff "$BATS_TEST_TMPDIR/digests" "$2" && return
    echo "$1 differs from $2; its log:"
    tail -n 20 "$1.log" 2>/dev/null
    return 1
}
