# Two jobs on one output folder: the second is refused, unless the first is dead, an earlier start of
# the same batch job, or --force-unlock says so; who has lost the folder writes no more.

bats_require_minimum_version 1.5.0

setup_file() {
    load common
    export LOCK_DIR=$BATS_FILE_TMPDIR
    make_model "$LOCK_DIR/model" --set num_hidden_layers=2
    write_job "$LOCK_DIR/job.yaml" "$LOCK_DIR/model" "$LOCK_DIR/undisturbed"
    alone run "$LOCK_DIR/job.yaml" >/dev/null
    digests "$LOCK_DIR/undisturbed" >"$LOCK_DIR/reference"
}

setup() {
    load common
    out=$BATS_TEST_TMPDIR/out
    holder=''
}

teardown() {
    [ -z "$holder" ] || kill -9 "$holder" 2>/dev/null || true
}

# hold OUT: a job that has the lock, has committed a layer and stands still; sets `holder`. Its syncs are slowed, so that it
# is not over before it is stopped.
hold() {
    RP_FAULT=fsync:1:every:slow "$rankpress" run "$LOCK_DIR/job.yaml" "output.dir=$1" \
        >"$1.holder" 2>&1 3>&- &
    holder=$!
    for ((i = 0; i < 1000; i++)); do
        [ ! -e "$1/checkpoint/manifest.json" ] || break
        sleep 0.01
    done
    kill -STOP "$holder"
    [ -e "$1/.lock" ] && [ -e "$1/checkpoint/manifest.json" ]
}

@test "a second job is refused with the holder's process, host, job and age" {
    export SLURM_JOB_ID=4711
    hold "$out"
    run -73 alone run "$LOCK_DIR/job.yaml" "output.dir=$out"
    [[ "$output" =~ ^rankpress:\ $out/.lock:\ in\ use\ by\ process\ $holder\ on\ $(hostname),\ job\ 4711,\ last\ sign\ of\ life\ [0-9]+\ s\ ago$ ]]
    run -73 on_ranks 2 resume "$out"
    kill -CONT "$holder"
    wait "$holder"
    same_digests "$out" "$LOCK_DIR/reference"
}

@test "--force-unlock takes the folder over; who had it ends with 73 and leaves it alone" {
    hold "$out"
    run -0 alone run --force-unlock "$LOCK_DIR/job.yaml" "output.dir=$out"
    [[ "$output" == *"rankpress: warning: "*"taking over from process $holder "*"as asked"* ]]
    same_digests "$out" "$LOCK_DIR/reference"
    find "$out" -type f | sort | xargs sha256sum >"$BATS_TEST_TMPDIR/before"
    kill -CONT "$holder"
    rc=0
    wait "$holder" || rc=$?
    cat "$out.holder"
    [ "$rc" = 73 ]
    grep -q '^rankpress: .*\.lock: lost: ' "$out.holder"
    find "$out" -type f | grep -v '/log/' | sort >"$BATS_TEST_TMPDIR/after"
    grep -v '/log/' "$BATS_TEST_TMPDIR/before" | sha256sum -c --quiet
    diff <(awk '{print $2}' "$BATS_TEST_TMPDIR/before" | grep -v '/log/') "$BATS_TEST_TMPDIR/after"
    holder=''
}

@test "the lock of a killed job is taken with a warning" {
    hold "$out"
    kill -9 "$holder"
    wait "$holder" || true
    run -0 alone run "$LOCK_DIR/job.yaml" "output.dir=$out"
    [[ "$output" == *"rankpress: warning: "*"taking over from process $holder "*"which is gone"* ]]
    same_digests "$out" "$LOCK_DIR/reference"
}

# elsewhere OUT: as if job 4711, started for the second time, ran on a node that has just failed
elsewhere() {
    mkdir -p "$1"
    echo "rankpress node9 12 34 56 4711 1 0" >"$1/.lock"
}

@test "a batch job that was started again takes its own lock at once" {
    elsewhere "$out"
    SLURM_JOB_ID=4711 SLURM_RESTART_COUNT=1 run -73 alone run "$LOCK_DIR/job.yaml" "output.dir=$out"
    SLURM_JOB_ID=4712 SLURM_RESTART_COUNT=2 run -73 alone run "$LOCK_DIR/job.yaml" "output.dir=$out"
    SLURM_JOB_ID=4711 SLURM_RESTART_COUNT=2 run -0 alone run "$LOCK_DIR/job.yaml" "output.dir=$out"
    [[ "$output" == *"process 12 on node9, job 4711, "*"whose batch job was started again"* ]]
    same_digests "$out" "$LOCK_DIR/reference"
}
