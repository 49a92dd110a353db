# What each rank logs to have called, sent and received in each layer is what `plan` says for so many
# ranks, and the bytes written are those of one rank. RP_TEST_SOAK=1 tries every power of two.

setup_file() {
    load common
    make_model "$BATS_FILE_TMPDIR/llama" --set num_hidden_layers=2
    make_model "$BATS_FILE_TMPDIR/qwen2" --family qwen2 --dtype F16 --shard-bytes 300KB \
        --set num_hidden_layers=2
}

setup() {
    load common
    limit_seconds=400
    counts=(1 2 4)
    [ "${RP_TEST_SOAK:-0}" = 0 ] || counts=(1 2 4 8 16 32 64)
}

# traffic_job MODEL: the recipe is standard input's. 72 blocks of one sequence: one a rank or more.
traffic_job() {
    cat >"$BATS_TEST_TMPDIR/recipe.yaml"
    cat - "$BATS_TEST_TMPDIR/recipe.yaml" >"$BATS_TEST_TMPDIR/job.yaml" <<JOB
model: $BATS_FILE_TMPDIR/$1
output: {dir: $BATS_TEST_TMPDIR/out, formats: [{gptq: {}}, {gguf: Q4_0}]}
calibration:
  text: $booklm/calibration.txt
  num_calibration_samples: 72
  max_seq_length: 32
  block_tokens: 32
cluster: {threads: 1, memory_per_rank: 300MB}
JOB
}

# as_planned OVERRIDE... -- COUNT...
as_planned() {
    local dir=$BATS_TEST_TMPDIR overrides=() nranks
    while [ "$1" != -- ]; do
        overrides+=("$1")
        shift
    done
    shift
    for nranks in "$@"; do
        rm -rf "$dir/out"
        on_ranks "$nranks" run "$dir/job.yaml" "${overrides[@]}" >"$dir/out.log" 2>&1 || cat "$dir/out.log"
        [ -e "$dir/reference" ] || digests "$dir/out" >"$dir/reference"
        same_digests "$dir/out" "$dir/reference"
        alone plan --json --ranks "$nranks" "$dir/job.yaml" "${overrides[@]}" >"$dir/plan.json"
        python3 "$root/tests/faults/traffic.py" "$dir/out/log" "$dir/plan.json" "$nranks" 2
    done
    [ "$(wc -l <"$dir/reference")" -ge 2 ]
}

# Two dampenings and two kinds of drift correction in one site.
drifting() {
    traffic_job llama <<'RECIPE'
recipe:
  - gptq: {targets: ['re:.*v_proj'], scheme: W4A16, group_size: 32, dampening_frac: 0.05, drift: asymmetric}
  - gptq: {targets: [Linear], ignore: [lm_head], scheme: W4A16, group_size: 32}
RECIPE
}

@test "drift, imatrix and two dampenings in a site: as planned" {
    drifting
    as_planned output.imatrix=own.gguf -- "${counts[@]}"
}

@test "the same on 64 ranks, many more than cores: as planned" {
    drifting
    as_planned output.imatrix=own.gguf -- 1 64
}

@test "gptq without drift or imatrix, a sharded qwen2: as planned" {
    traffic_job qwen2 <<'RECIPE'
recipe:
  - gptq: {targets: [Linear], ignore: [lm_head], scheme: W4A16, group_size: 32, drift: none}
RECIPE
    as_planned -- "${counts[@]}"
}

@test "a site of rtn with the job's own sums, one of both, one left alone: as planned" {
    traffic_job llama <<'RECIPE'
recipe:
  - rtn: {targets: ['re:.*(q_proj|down_proj)'], bits: 8, group_size: 32, imatrix: calibration}
  - gptq: {targets: ['re:.*(k_proj|v_proj|gate_proj|up_proj)'], scheme: W4A16, group_size: 32, actorder: static}
RECIPE
    as_planned output.formats='[{safetensors: {}}, {gguf: Q4_0}]' -- "${counts[@]}"
}

@test "a count that is not the plan's is found" {
    drifting
    on_ranks 2 run "$BATS_TEST_TMPDIR/job.yaml" >"$BATS_TEST_TMPDIR/out.log" 2>&1
    alone plan --json --ranks 3 "$BATS_TEST_TMPDIR/job.yaml" >"$BATS_TEST_TMPDIR/plan.json"
    run python3 "$root/tests/faults/traffic.py" "$BATS_TEST_TMPDIR/out/log" "$BATS_TEST_TMPDIR/plan.json" 2 2
    [ "$status" = 1 ]
    [[ $output = *"rank 1, layer 1: logged"* ]]
}
