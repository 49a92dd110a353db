# File systems that fail a job which is under way: no room, quota, read-only, permission, slow, and
# input files that are cut, removed or replaced.
bats_require_minimum_version 1.5.0

setup() {
    load common
    seed=${RP_TEST_SEED:-$RANDOM}
    dir=$BATS_TEST_TMPDIR
}

# full_disk COUNT SOAK_COUNT FS
full_disk() {
    local count=$1 rc=0
    [ "${RP_TEST_SOAK:-0}" = 0 ] || count=$2
    python3 "$root/tests/faults/full_disk.py" "$build" "$dir" "$count" --fs "$3" --seed "$seed" || rc=$?
    [ "$rc" != 77 ] || skip "cannot mount a small $3"
    [ "$rc" = 0 ]
}

@test "a disk of 64 MB that fills up at any moment: 74, and with room again the same bytes" {
    full_disk 10 240 tmpfs
}

@test "the same where room cannot be reserved" {
    full_disk 10 240 ext2
}

# fails_with NAME PATTERN...: each call site of "kind file:line" with one of these in it, with this error
fails_with() {
    local what=$1
    shift
    mkdir "$dir/$what"
    python3 "$root/tests/faults/call_sites.py" "$build" "$dir/$what" --seed "$seed" --what "$what" \
        "${@/#/--only=}"
}

@test "quota exceeded" {
    fails_with EDQUOT "fallocate " "write "
}

@test "no permission and a file system that has become read-only" {
    fails_with EACCES "mkdir " "unlink "
    fails_with EROFS "mkdir " "ftruncate "
}

@test "slow syncs and writes change nothing" {
    fails_with slow "mpi_sync " "fsync "
}

# small_job: model, job file and the digests of an undisturbed run in $dir
small_job() {
    make_model "$dir/model" --set num_hidden_layers=2
    write_job "$dir/job.yaml" "$dir/model" "$dir/undisturbed"
    alone run "$dir/job.yaml" >/dev/null
    digests "$dir/undisturbed" >"$dir/reference"
}

# start_held: the job in the background, stopped when its first checks are behind it; sets `held`
start_held() {
    RP_FAULT=log:1:stop "$rankpress" run --quiet "$dir/job.yaml" "output.dir=$dir/out" 2>"$dir/stderr" 3>&- &
    held=$!
    for ((i = 0; i < 3000; i++)); do
        ! grep -q '^State:.T' "/proc/$held/status" || return 0
        sleep 0.01
    done
    return 1
}

# go_on CODE: lets it run to its end; one message unless it ends well
go_on() {
    local rc=0
    kill -CONT "$held"
    wait "$held" || rc=$?
    cat "$dir/stderr"
    [ "$rc" = "$1" ]
    [ "$(wc -l <"$dir/stderr")" = "$(($1 != 0))" ]
}

@test "an input file that is cut while the job runs: its name, and with the file back the same bytes" {
    small_job
    cp "$dir/model/model.safetensors" "$dir/kept"
    start_held
    truncate -s 100000 "$dir/model/model.safetensors"
    go_on 65
    grep -q "model.safetensors: cut file" "$dir/stderr"
    only_whole "$dir/out" "$dir/reference"
    cat "$dir/kept" >"$dir/model/model.safetensors"
    alone resume "$dir/out" >/dev/null
    same_digests "$dir/out" "$dir/reference"
}

@test "an input file that is removed or replaced while the job runs: the one it began with counts" {
    small_job
    start_held
    rm "$dir/model/model.safetensors"
    go_on 0
    same_digests "$dir/out" "$dir/reference"
    rm -rf "$dir/out"
    make_model "$dir/model" --set num_hidden_layers=2 >/dev/null
    start_held
    make_model "$dir/other" --set num_hidden_layers=2 --seed 1
    mv "$dir/other/model.safetensors" "$dir/model/model.safetensors"
    go_on 0
    same_digests "$dir/out" "$dir/reference"
}

@test "read errors of an input file" {
    small_job
    for kind in read open; do
        rm -rf "$dir/out"
        RP_FAULT=$kind:10:every run -74 alone run --quiet "$dir/job.yaml" "output.dir=$dir/out"
        [[ "$output" == "rankpress: "*"Input/output error" ]]
    done
}

@test "a read-only folder: 77, and it goes on when it is writable" {
    small_job
    mkdir "$dir/out"
    mount -t tmpfs -o size=64m tmpfs "$dir/out" 2>/dev/null || skip "cannot mount a small tmpfs"
    rc=0
    {
        start_held && kill -KILL "$held" && { wait "$held" || true; } &&
            mount -o remount,ro "$dir/out" && run -77 alone resume --quiet "$dir/out" &&
            [[ "$output" == "rankpress: "*"Read-only file system" ]] &&
            mount -o remount,rw "$dir/out" && alone resume "$dir/out" >/dev/null &&
            same_digests "$dir/out" "$dir/reference"
    } || rc=$?
    umount -l "$dir/out"
    [ "$rc" = 0 ]
}
