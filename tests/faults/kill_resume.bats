# A run that is killed or stopped at any moment goes on, on any number of ranks, to the same bytes.
# RP_TEST_SEED repeats the moments of an earlier run; RP_TEST_SOAK=1 tries fifty instead of ten.

setup_file() {
    load common
    export KILL_DIR=$BATS_FILE_TMPDIR
    write_job "$KILL_DIR/job.yaml" "$booklm" "$KILL_DIR/undisturbed"
    local begin=$EPOCHREALTIME
    on_ranks 3 run "$KILL_DIR/job.yaml" >"$KILL_DIR/undisturbed.log" 2>&1
    export RUN_MS=$(((${EPOCHREALTIME/./} - ${begin/./}) / 1000))
    digests "$KILL_DIR/undisturbed" >"$KILL_DIR/reference"
    export RP_TEST_SEED=${RP_TEST_SEED:-$RANDOM}
}

setup() {
    load common
}

# start_job OUT: three ranks in the background, in a session of their own, since a launcher that is
# disturbed while it starts may signal its whole process group; sets `launcher`
start_job() {
    setsid "$root/scripts/mpirun" -n 3 "$rankpress" run "$KILL_DIR/job.yaml" "output.dir=$1" \
        >"$1.log" 2>&1 3>&- &
    launcher=$!
}

# kill_at_ms OUT MS WHO: starts a job and kills (-9) all of it or one rank at that moment
kill_at_ms() {
    local pids
    start_job "$1"
    sleep "$(printf '%d.%03d' $(($2 / 1000)) $(($2 % 1000)))"
    mapfile -t pids < <(descendants "$launcher")
    if [ "$3" = all ]; then
        kill -9 "${pids[@]}" 2>/dev/null || true
    else
        kill -9 "${pids[-1]}" 2>/dev/null || true
    fi
    wait "$launcher" || true
}

# finish OUT NRANKS: resume, or run again when it was killed before there was anything to resume
finish() {
    if ! on_ranks "$2" resume "$1" >>"$1.log" 2>&1; then
        on_ranks "$2" run "$KILL_DIR/job.yaml" "output.dir=$1" >>"$1.log" 2>&1
    fi
}

@test "killed at random moments, resumed on 1, 2 and 4 ranks: the bytes of an undisturbed run" {
    [ -s "$KILL_DIR/reference" ]
    echo "seed $RP_TEST_SEED, undisturbed $RUN_MS ms"
    RANDOM=$RP_TEST_SEED
    counts=(1 2 4)
    who=(all one)
    moments=10
    [ "${RP_TEST_SOAK:-0}" = 0 ] || moments=50
    for ((i = 0; i < moments; i++)); do
        out=$KILL_DIR/killed-$i
        at_ms=$((RANDOM * RUN_MS / 32768))
        nranks=${counts[i % 3]}
        echo "kill $i: ${who[i % 2]} after $at_ms ms, resume on $nranks"
        kill_at_ms "$out" "$at_ms" "${who[i % 2]}"
        finish "$out" "$nranks"
        same_digests "$out" "$KILL_DIR/reference"
        rm -rf "$out"
    done
}

@test "SIGTERM saves what is finished; resume goes on" {
    out=$KILL_DIR/stopped
    start_job "$out"
    sleep "$(printf '%d.%03d' $((RUN_MS / 2000)) $((RUN_MS / 2 % 1000)))"
    kill -TERM "$launcher" 2>/dev/null || true
    wait "$launcher" || true
    [ -z "$(find "$out" -name '*.part')" ]
    finish "$out" 2
    same_digests "$out" "$KILL_DIR/reference"
}
