# A run that is killed, stopped or damaged at any moment goes on, on any number of ranks, to the same
# bytes. RP_TEST_SEED repeats the moments of an earlier run; RP_TEST_SOAK=1 makes the loops long.

setup() {
    load common
    seed=${RP_TEST_SEED:-$RANDOM}
}

# often N SOAK: how often a loop runs
often() {
    [ "${RP_TEST_SOAK:-0}" = 0 ] && echo "$1" || echo "$2"
}

@test "killed ranks: what was committed stays, and the bytes are those of an undisturbed run" {
    python3 "$root/tests/faults/kill_ranks.py" "$build" "$BATS_TEST_TMPDIR" "$(often 20 300)" --seed "$seed"
}

@test "SIGTERM to all ranks: exit code 75, nothing half-made is left, and it goes on" {
    python3 "$root/tests/faults/kill_ranks.py" "$build" "$BATS_TEST_TMPDIR" "$(often 8 100)" --seed "$seed" --signal TERM
}

@test "damaged checkpoints: the units are done again" {
    python3 "$root/tests/faults/damage_files.py" "$build" "$BATS_TEST_TMPDIR" "$(often 10 100)" --seed "$seed"
}

@test "damaged checkpoints, many places in one process" {
    scratch=$BATS_TEST_TMPDIR
    [ ! -w /dev/shm ] || scratch=$(mktemp -d -p /dev/shm)
    rc=0
    "$build/tests/jobs/test_damage" "$scratch" "$(often 2000 10000)" || rc=$?
    rm -rf "${scratch:?}"/*
    [ "$scratch" = "$BATS_TEST_TMPDIR" ] || rmdir "$scratch"
    [ "$rc" = 0 ]
}
