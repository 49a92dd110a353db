# Readers survive damaged files: one line and an exit code, no crash. With the sanitizers of the dev
# build where that is there. RP_TEST_SEED repeats a round, RP_TEST_SOAK=1 makes it a long one.

setup_file() {
    load common
    export FUZZ_DIR=$BATS_FILE_TMPDIR RP_TEST_SEED=${RP_TEST_SEED:-$RANDOM}
    make_model "$FUZZ_DIR/model" --set num_hidden_layers=1 --set hidden_size=32 \
        --set intermediate_size=64 --set num_attention_heads=2
    write_job "$FUZZ_DIR/job.yaml" "$FUZZ_DIR/model" "$FUZZ_DIR/out"
    alone run "$FUZZ_DIR/job.yaml" >/dev/null
}

setup() {
    load common
    fuzzed=$rankpress
    [ ! -x "$root/build/dev/jobs/rankpress" ] || fuzzed=$root/build/dev/jobs/rankpress
    count=60
    [ "${RP_TEST_SOAK:-0}" = 0 ] || count=3000
    export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
}

# fuzz FILE COMMAND...: with damaged copies of FILE
fuzz() {
    local file=$1
    shift
    echo "seed $RP_TEST_SEED, $file"
    python3 "$root/tests/faults/fuzz_files.py" "$fuzzed" "$BATS_TEST_TMPDIR" "$count" \
        "$RP_TEST_SEED" "$file" -- "$@"
}

@test "damaged safetensors file" {
    fuzz "$FUZZ_DIR/model/model.safetensors" inspect FILE
}

@test "damaged gguf file" {
    fuzz "$(find "$FUZZ_DIR/out" -name '*.gguf' | sort | head -n 1)" inspect FILE
}

@test "damaged tokenizer" {
    echo "Once upon a time" >"$BATS_TEST_TMPDIR/text"
    fuzz "$FUZZ_DIR/model/tokenizer.json" tokenize --model "$BATS_TEST_TMPDIR" --text "$BATS_TEST_TMPDIR/text"
}

@test "damaged config" {
    cp -r "$FUZZ_DIR/model/." "$BATS_TEST_TMPDIR/"
    fuzz "$FUZZ_DIR/model/config.json" plan "$FUZZ_DIR/job.yaml" "model=$BATS_TEST_TMPDIR"
}

@test "damaged job file" {
    fuzz "$FUZZ_DIR/job.yaml" plan FILE
}
