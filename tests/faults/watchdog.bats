# A rank that is stopped or killed: the others end in time with one line that names it, nothing is
# left running, and the job goes on to the bytes of an undisturbed one. A slow rank is not missed.

setup_file() {
    load common
    export WATCHED_DIR=$BATS_FILE_TMPDIR
    write_job "$WATCHED_DIR/job.yaml" "$booklm" "$WATCHED_DIR/undisturbed"
    on_ranks 3 run "$WATCHED_DIR/job.yaml" >/dev/null 2>&1
    digests "$WATCHED_DIR/undisturbed" >"$WATCHED_DIR/reference"
}

setup() {
    load common
    deadline=3
    pids=()
}

# What a test that failed has left.
teardown() {
    [ ${#pids[@]} = 0 ] || kill -9 "${pids[@]}" 2>/dev/null || true
}

# start_job NRANKS OUT [OVERRIDE...]: in the background and in a session of its own; sets `launcher`,
# `pids` (all of it), and `ranks` (by rank), once the ranks watch each other
start_job() {
    local nranks=$1 out=$2 file
    shift 2
    setsid "$root/scripts/mpirun" -n "$nranks" "$rankpress" run "$WATCHED_DIR/job.yaml" \
        "output.dir=$out" cluster.heartbeat=0.5 "cluster.peer_deadline=$deadline" "$@" \
        >"$out.log" 2>&1 3>&- &
    launcher=$!
    pids=("$launcher")
    for ((i = 0; i < 6000; i++)); do
        mapfile -t files < <(find "$out/.heartbeat" -name 'r????' -size +0 2>/dev/null | sort)
        [ ${#files[@]} -lt "$nranks" ] || break
        sleep 0.01
    done
    ranks=()
    for file in "${files[@]}"; do
        ranks+=("$(cut -d ' ' -f 3 "$file")")
    done
    mapfile -t pids < <(descendants "$launcher")
}

# runs PID: a process that has ended and waits for its parent does not
runs() {
    local state
    state=$(ps -o stat= -p "$1") && [[ $state != Z* ]]
}

# gone_within SECONDS PID...
gone_within() {
    local end=$((SECONDS + $1)) pid
    shift
    for pid in "$@"; do
        while runs "$pid"; do
            if [ "$SECONDS" -gt "$end" ]; then
                echo "still there: $(ps -o pid=,stat=,args= -p "$pid")"
                return 1
            fi
            sleep 0.02
        done
    done
}

# ends_within SECONDS: the whole job, launcher and ranks; sets `rc`
ends_within() {
    local begin=$EPOCHREALTIME
    gone_within "$1" "${pids[@]}"
    echo "ended after $(((${EPOCHREALTIME/./} - ${begin/./}) / 1000)) ms"
    rc=0
    wait "$launcher" || rc=$?
}

# resumes OUT: on another number of ranks, to the same bytes; nothing of the watch is left
resumes() {
    on_ranks 2 resume "$1"
    same_digests "$1" "$WATCHED_DIR/reference"
    [ ! -e "$1/.heartbeat" ]
}

@test "a stopped rank: one line names it, all end in time, resume goes on" {
    for victim in 0 2; do
        out=$BATS_TEST_TMPDIR/stopped-$victim
        start_job 3 "$out"
        sleep 0.2
        kill -STOP "${ranks[victim]}"
        ends_within $((deadline + 5))
        cat "$out.log"
        [ "$rc" = 75 ]
        [ "$(grep -vc ': cpu back end$' "$out.log")" = 1 ]
        want="^rankpress: rank $victim on $(hostname) \(pid ${ranks[victim]}\) gave no sign of life for"
        want+=" [34] s, last seen after [a-z]+; stopping; go on with: rankpress resume $out\$"
        grep -qE "$want" "$out.log"
        grep -q '"event":"end","message":"rank .* gave no sign of life' "$out"/log/rank-*.jsonl
        resumes "$out"
    done
}

@test "a stopped rank and a launcher that hangs: the others end all the same" {
    out=$BATS_TEST_TMPDIR/hung-launcher
    start_job 3 "$out"
    sleep 0.2
    kill -STOP "$launcher" "${ranks[1]}"
    gone_within $((deadline + 8)) "${ranks[0]}" "${ranks[2]}"
    kill -9 "${ranks[1]}"
    kill -CONT "$launcher"
    ends_within 10
    [ "$rc" != 0 ]
    [ "$(grep -vc ': cpu back end$' "$out.log")" = 1 ]
    grep -q '^rankpress: rank 1 on .* gave no sign of life' "$out.log"
    resumes "$out"
}

@test "a killed rank: the others end at once, resume goes on" {
    out=$BATS_TEST_TMPDIR/killed
    start_job 3 "$out"
    sleep 0.2
    kill -9 "${ranks[1]}"
    ends_within $((deadline + 5))
    [ "$rc" != 0 ]
    resumes "$out"
}

@test "sixteen ranks on few cores: nobody is missed" {
    out=$BATS_TEST_TMPDIR/crowd
    deadline=10
    start_job 16 "$out" cluster.threads=1
    ends_within "$limit_seconds"
    cat "$out.log"
    [ "$rc" = 0 ]
    [ "$(grep -c 'sign of life' "$out.log")" = 0 ]
    same_digests "$out" "$WATCHED_DIR/reference"
    [ ! -e "$out/.heartbeat" ]
}
