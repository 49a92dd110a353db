# A job in a Slurm of its own that is stopped goes back into the queue by itself, and ends with the bytes of an undisturbed
# run on one rank.

setup_file() {
    load slurm
    export LAB=/tmp/rp-lab-$$ DIR=$BATS_FILE_TMPDIR
    start_lab "$LAB" || return 0
    export REFERENCE=$DIR/reference
    write_slurm_job "$DIR/job.yaml" "$DIR/undisturbed" 24
    alone run "$DIR/job.yaml" --quiet
    digests "$DIR/undisturbed" >"$REFERENCE"
}

teardown_file() {
    load slurm
    stop_lab "$LAB"
}

setup() {
    load slurm
    [ -z "$WHY_NOT" ] || skip "$WHY_NOT"
}

@test "scancel --signal=TERM: saved, requeued, done; status knows" {
    out=$DIR/terminated
    submit "$DIR/job.yaml" "output.dir=$out"
    wait_until 60 has_committed "$out" 1
    alone status "$out" | tee "$DIR/status"
    grep -q ': running$' "$DIR/status"
    grep -q '^  stage  *calibrate and solve, [0-5] of 6 layers' "$DIR/status"
    grep -q "^  Slurm jobs  *$job started, RUNNING$" "$DIR/status"
    scancel --signal=TERM "$job"
    wait_until 30 has_events "$out" requeued 1
    alone status "$out" | tee "$DIR/status"
    grep -q ': queued$' "$DIR/status"
    grep -q '^  stops so far  *1$' "$DIR/status"
    grep -q '^  last message  *stopped by SIGTERM' "$DIR/status"
    completed "$out" 90
    alone status "$out" --watch | tee "$DIR/status"
    grep -q "^  Slurm jobs  *$job ended with exit code 0, COMPLETED$" "$DIR/status"
    [ "$(events "$out" requeued)" = 1 ]
    [ "$(events "$out" started)" = 2 ]
}
