# Fault loop: the n-th fault point of each site fails on one of two ranks. All leave in time with one
# message, nothing half-written is under a final name, and the next run ends with the bytes of an undisturbed one.

setup_file() {
    load common
    export MODEL=$BATS_FILE_TMPDIR/model
    make_model "$MODEL" --set num_hidden_layers=2
    write_job "$BATS_FILE_TMPDIR/job.yaml" "$MODEL" "$BATS_FILE_TMPDIR/undisturbed"
    alone run "$BATS_FILE_TMPDIR/job.yaml" >/dev/null
    digests "$BATS_FILE_TMPDIR/undisturbed" >"$BATS_FILE_TMPDIR/reference"
}

setup() {
    load common
}

sites() {
    grep -rhoE 'RP_FAULT\("[a-z_.]+"\)' "$root"/{base,kernels,formats,model,mpi,sharding,methods,jobs} \
        --include='*.c' | sed 's/.*"\(.*\)".*/\1/' | sort -u
}

# with_fault SITE N RANK OUT: two ranks, the fault on one of them
with_fault() {
    local faulty=(-n 1 -x "RP_FAULT=$1:$2" "$rankpress" run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$4")
    local sound=(-n 1 "$rankpress" run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$4")
    if [ "$3" = 0 ]; then
        timeout -k 5 60 "$root/scripts/mpirun" "${faulty[@]}" : "${sound[@]}"
    else
        timeout -k 5 60 "$root/scripts/mpirun" "${sound[@]}" : "${faulty[@]}"
    fi
}

@test "every fault point on either rank: no hang, one message, no half output, and it goes on" {
    [ -n "$(sites)" ]
    occurrences=(1 2 5)
    [ "${RP_TEST_SOAK:-0}" = 0 ] || occurrences=({1..30})
    for site in $(sites); do
        for rank in 0 1; do
            for n in "${occurrences[@]}"; do
                out=$BATS_TEST_TMPDIR/out
                rm -rf "$out"
                rc=0
                with_fault "$site" "$n" "$rank" "$out" >"$BATS_TEST_TMPDIR/log" 2>&1 || rc=$?
                echo "site $site, occurrence $n, rank $rank: exit code $rc"
                [[ $rc != 124 && $rc != 137 ]]
                if [ "$rc" != 0 ]; then
                    grep -q '^rankpress: ' "$BATS_TEST_TMPDIR/log"
                    only_whole "$out" "$BATS_FILE_TMPDIR/reference"
                    on_ranks 2 run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$out" >/dev/null
                fi
                same_digests "$out" "$BATS_FILE_TMPDIR/reference"
            done
        done
    done
}
