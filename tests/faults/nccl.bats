# Several ranks with a GPU each, on the stand-ins of CUDA and NCCL (tests/cuda_host): the same bytes
# on any number of ranks, and a collective that goes wrong stops the job, which can be resumed.

setup_file() {
    load common
    make_model "$BATS_FILE_TMPDIR/llama" --set num_hidden_layers=2
}

setup() {
    load common
    rankpress=$build/tests/cuda_host/rankpress_cuda_host
    dir=$BATS_TEST_TMPDIR
    export RP_CUDA_HOST=gpus=4
}

gpu_job() { # OUT
    cat <<JOB
backend: cuda
model: $BATS_FILE_TMPDIR/llama
output: {dir: $1, formats: [{gptq: {}}]}
calibration:
  text: $booklm/calibration.txt
  num_calibration_samples: 8
  max_seq_length: 32
  block_tokens: 32
recipe:
  - gptq: {targets: [Linear], ignore: [lm_head], scheme: W4A16, group_size: 32}
cluster: {threads: 1}
JOB
}

reference() {
    gpu_job "$dir/alone" >"$dir/alone.yaml"
    alone run "$dir/alone.yaml" >"$dir/alone.log" 2>&1
    digests "$dir/alone" >"$dir/reference"
    [ "$(wc -l <"$dir/reference")" -ge 2 ]
}

@test "2, 3 and 4 ranks write the bytes of one; they are connected by NCCL" {
    reference
    for nranks in 2 3 4; do
        gpu_job "$dir/out-$nranks" >"$dir/job.yaml"
        on_ranks "$nranks" run "$dir/job.yaml" >"$dir/out-$nranks.log" 2>&1
        same_digests "$dir/out-$nranks" "$dir/reference"
        [ "$(cat "$dir/out-$nranks"/log/* | grep -c '"transport":"nccl 2.28.9"')" = "$nranks" ]
    done
}

@test "two ranks on one GPU: the same bytes by MPI, and a warning" {
    reference
    export RP_CUDA_HOST=gpus=1
    gpu_job "$dir/out" >"$dir/job.yaml"
    on_ranks 2 run "$dir/job.yaml" >"$dir/out.log" 2>&1
    same_digests "$dir/out" "$dir/reference"
    grep 'warning: ranks 0 and 1 share GPU-' "$dir/out.log"
    grep -q '"transport":"mpi through pinned memory: ranks 0 and 1 share GPU-' "$dir/out"/log/*
}

# stops_and_resumes FAULT: 75, with a message that names the collective; then the bytes of one rank
stops_and_resumes() {
    local code=0
    rm -rf "$dir/out"
    gpu_job "$dir/out" >"$dir/job.yaml"
    RP_NCCL_HOST=$1 on_ranks 2 run "$dir/job.yaml" cluster.collective_deadline=2s >"$dir/out.log" 2>&1 ||
        code=$?
    cat "$dir/out.log"
    [ "$code" = 75 ]
    grep "^rankpress: stopped .*: NCCL: .* number ${1##* } .* on rank .*; go on with: rankpress resume" "$dir/out.log"
    nothing_final "$dir/out"
    on_ranks 2 resume "$dir/out" >"$dir/out.log" 2>&1
    same_digests "$dir/out" "$dir/reference"
}

@test "a collective that does not complete, and one that fails: 75, and resume goes on" {
    reference
    stops_and_resumes "hang 1 2"
    stops_and_resumes "error 1 9"
    stops_and_resumes "call 0 17"
}
