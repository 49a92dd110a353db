# The bytes written depend on neither the number of ranks nor that of threads.

setup_file() {
    load common
    make_model "$BATS_FILE_TMPDIR/llama"
    make_model "$BATS_FILE_TMPDIR/qwen3" --family qwen3 --dtype F16 --shard-bytes 300KB \
        --set num_hidden_layers=3 --set vocab_size=4100
}

setup() {
    load common
}

# every_count MODEL [OVERRIDE...]: 1 to 4 ranks, 1 and 2 threads against 1 rank, 1 thread
every_count() {
    local model=$1 dir=$BATS_TEST_TMPDIR nranks threads
    shift
    for nranks in 1 2 3 4; do
        for threads in 1 2; do
            write_job "$dir/job.yaml" "$model" "$dir/out-$nranks-$threads"
            on_ranks "$nranks" run "$dir/job.yaml" cluster.threads=$threads "$@"
            [ -e "$dir/reference" ] || digests "$dir/out-1-1" >"$dir/reference"
            same_digests "$dir/out-$nranks-$threads" "$dir/reference"
        done
    done
    [ "$(wc -l <"$dir/reference")" -ge 5 ]
}

@test "gptq of a random llama: the same bytes on 1 to 4 ranks, 1 and 2 threads" {
    every_count "$BATS_FILE_TMPDIR/llama"
}

@test "gptq with act-order and clipping search of a sharded qwen3: the same bytes" {
    every_count "$BATS_FILE_TMPDIR/qwen3" recipe.0.gptq.actorder=static recipe.0.gptq.mse=true
}

@test "gptq of booklm: the same bytes" {
    every_count "$booklm"
}

@test "a second run writes the same bytes" {
    dir=$BATS_TEST_TMPDIR
    for run in 1 2; do
        write_job "$dir/job.yaml" "$BATS_FILE_TMPDIR/llama" "$dir/out-$run"
        on_ranks 2 run "$dir/job.yaml"
    done
    digests "$dir/out-1" >"$dir/reference"
    same_digests "$dir/out-2" "$dir/reference"
}
