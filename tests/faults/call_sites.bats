# Every call that can fail, failed: see call_sites.py. RP_TEST_SOAK=1 tries first, second and last
# occurrences on each rank; else each site once, as far as two minutes reach, in a random order
# that RP_TEST_SEED repeats.

setup() {
    load common
    seed=${RP_TEST_SEED:-$RANDOM}
    reach=(--seconds 120)
    [ "${RP_TEST_SOAK:-0}" = 0 ] || reach=(--soak)
}

call_sites() {
    python3 "$root/tests/faults/call_sites.py" "$build" "$BATS_TEST_TMPDIR" --seed "$seed" "$@"
}

@test "every call site fails: no hang, one message, its exit code, no half output, and it goes on" {
    call_sites "${reach[@]}"
}
