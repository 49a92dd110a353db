# A job in a Slurm of its own that is stopped goes back into the queue by itself, and ends with the bytes of an undisturbed
# run on one rank.

setup_file() {
    load common
    load slurm
    export LAB=/tmp/rp-lab-$$ DIR=$BATS_FILE_TMPDIR
    start_lab "$LAB"
    export REFERENCE=$DIR/reference
    write_slurm_job "$DIR/job.yaml" "$DIR/undisturbed" 24
    alone run "$DIR/job.yaml" --quiet
    digests "$DIR/undisturbed" >"$REFERENCE"
}

teardown_file() {
    load slurm
    [ ! -d "$LAB" ] || "$lab_scripts/stop.sh" --dir "$LAB" --purge
    rm -f "$LAB.log"
}

setup() {
    load common
    load slurm
}

@test "scancel --signal=TERM: saved, requeued, done" {
    out=$DIR/terminated
    submit "$DIR/job.yaml" "output.dir=$out"
    wait_until 60 has_committed "$out" 1
    scancel --signal=TERM "$job"
    completed "$out" 90
    [ "$(events "$out" requeued)" = 1 ]
    [ "$(events "$out" started)" = 2 ]
}
