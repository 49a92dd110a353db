# Everything that ends a job in Slurm before its time, with both launchers, on two nodes of two ranks: it always ends
# COMPLETED by itself, with the bytes of an undisturbed run on one rank. Only with RP_TEST_SOAK=1: a quarter of an hour.

setup_file() {
    load slurm
    export LAB=/tmp/rp-lab-$$ DIR=$BATS_FILE_TMPDIR WHY_NOT='only in the soak'
    [ "${RP_TEST_SOAK:-0}" != 0 ] || return 0
    start_lab "$LAB" || return 0
    write_slurm_job "$DIR/job.yaml" "$DIR/undisturbed" 48
    alone run "$DIR/job.yaml" --quiet
    digests "$DIR/undisturbed" >"$DIR/reference"
}

teardown_file() {
    load slurm
    stop_lab "$LAB"
}

setup() {
    load slurm
    [ -z "$WHY_NOT" ] || skip "$WHY_NOT"
    export REFERENCE=$DIR/reference
    # Nodes that a test before broke.
    "$lab_scripts/node.sh" --dir "$LAB" wake vn2
    "$lab_scripts/start.sh" --dir "$LAB" 3>&-
}

# write_long_job: one of some minutes, a deep model, and the digests of what it writes undisturbed
write_long_job() {
    local limit_seconds=1800
    export REFERENCE=$DIR/reference-long
    [ ! -e "$REFERENCE" ] || return 0
    make_model "$DIR/deep" --set num_hidden_layers=200
    write_slurm_job "$DIR/long.yaml" "$DIR/undisturbed-long" 150
    sed -i "s:^model.*:model\: $DIR/deep:" "$DIR/long.yaml"
    alone run "$DIR/long.yaml" --quiet
    digests "$DIR/undisturbed-long" >"$REFERENCE"
    rm -r "$DIR/undisturbed-long"
}

# too_short LAUNCHER: a limit of a minute for a job of several
too_short() {
    out=$DIR/short-$1
    write_long_job
    submit "$DIR/long.yaml" "output.dir=$out" "cluster.slurm.launcher=$1" cluster.slurm.time=1m cluster.slurm.signal_lead=10s
    completed "$out" 1500
    echo "# requeued $(events "$out" requeued) times in $SECONDS s" >&3
    [ "$(events "$out" requeued)" -ge 3 ]
}

# begin NAME LAUNCHER [ARG...]: a job that has committed its first layer; sets `out` and `job`
begin() {
    out=$DIR/$1-$2
    submit "$DIR/job.yaml" "output.dir=$out" "cluster.slurm.launcher=$2" "${@:3}"
    wait_until 60 has_committed "$out" 1
}

terminated() {
    begin terminated "$1"
    scancel --signal=TERM "$job"
    completed "$out" 120
    [ "$(events "$out" requeued)" = 1 ]
}

preempted() {
    begin preempted "$1"
    sbatch --parsable -p urgent -N2 --exclusive -o /dev/null --wrap 'sleep 3'
    completed "$out" 180
    [ "$(events "$out" started)" -ge 2 ]
}

# node_fails LAUNCHER NODE: as by a loss of power; the node comes back when Slurm has given it up
node_fails() {
    begin "fail-$2" "$1"
    "$lab_scripts/node.sh" --dir "$LAB" fail "$2"
    wait_until 90 is_not_running "$job"
    "$lab_scripts/start.sh" --dir "$LAB" 3>&-
    completed "$out" 240
    [ "$(events "$out" started)" -ge 2 ]
}

# node_hangs LAUNCHER: the job goes on with the node that is left; the other wakes while it does, and harms nothing
node_hangs() {
    begin hang "$1" cluster.slurm.nodes=1-2
    "$lab_scripts/node.sh" --dir "$LAB" hang vn2
    wait_until 120 has_events "$out" started 2
    sleep 5
    "$lab_scripts/node.sh" --dir "$LAB" wake vn2
    completed "$out" 240
}

# rank_dies LAUNCHER: one rank of four gets a kill -9
rank_dies() {
    local pid rank=
    begin rank "$1"
    for pid in $(pgrep -f "rankpress run $out/job.yaml"); do
        [ "$(readlink "/proc/$pid/exe")" != "$(readlink -f "$rankpress")" ] || rank=$pid
    done
    kill -9 "$rank"
    completed "$out" 120
    [ "$(events "$out" requeued)" -ge 1 ]
}

teardown() {
    rm -rf "${out:-/nonexistent}"
}

@test "srun: a time limit too short for the job, requeued three times or more" { too_short srun; }
@test "mpirun: a time limit too short for the job, requeued three times or more" { too_short mpirun; }
@test "srun: scancel --signal=TERM" { terminated srun; }
@test "mpirun: scancel --signal=TERM" { terminated mpirun; }
@test "srun: preempted" { preempted srun; }
@test "mpirun: preempted" { preempted mpirun; }
@test "srun: a node fails" { node_fails srun vn2; }
@test "mpirun: a node fails" { node_fails mpirun vn2; }
@test "srun: the node of the batch script fails" { node_fails srun vn1; }
@test "mpirun: the node of the batch script fails" { node_fails mpirun vn1; }
@test "srun: a node hangs" { node_hangs srun; }
@test "mpirun: a node hangs" { node_hangs mpirun; }
@test "srun: a rank is killed" { rank_dies srun; }
@test "mpirun: a rank is killed" { rank_dies mpirun; }
