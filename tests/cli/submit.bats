# rankpress submit: what it writes and checks, and what the batch script decides, with programs of Slurm that are a few lines
# each. On a real Slurm: tests/faults/slurm_*.bats.

setup_file() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    export RANKPRESS=${RP_BUILD:-$root/build/release}/jobs/rankpress
    export DIR=$BATS_FILE_TMPDIR
    python3 "$root/tests/bench/make_model.py" "$DIR/model"
    cat >"$DIR/job.yaml" <<JOB
model: $DIR/model
output: {dir: $DIR/out, formats: [{gguf: Q4_0}]}
calibration: {text: $root/examples/models/booklm/calibration.txt, num_calibration_samples: 8, max_seq_length: 64}
recipe: [{gptq: {group_size: 32}}]
JOB
}

setup() {
    out=$BATS_TEST_TMPDIR/out
    slurm=$BATS_TEST_TMPDIR/slurm
    mkdir "$slurm"
    export PATH=$slurm:$PATH CALLS=$BATS_TEST_TMPDIR/calls SLURM_JOB_ID=7
    unset SLURM_RESTART_COUNT SLURM_JOB_END_TIME SLURM_JOB_NUM_NODES
    : >"$CALLS"
    stub sbatch 'echo "sbatch $*" >>"$CALLS"; echo 41'
    stub squeue 'case $* in *%T*) echo RUNNING ;; *) echo N/A ;; esac'
    # Slurm ends the script that asked for it.
    stub scontrol 'echo "scontrol $*" >>"$CALLS"; kill -KILL $PPID'
    stub sleep 'echo "sleep $*" >>"$CALLS"; [ "$1" = 30 ] || exec /bin/sleep "$1"'
}

# stub NAME TEXT: a program of Slurm
stub() {
    printf '#!/bin/bash\n%s\n' "$2" >"$slurm/$1"
    chmod +x "$slurm/$1"
}

script() {
    "$RANKPRESS" submit "$DIR/job.yaml" "output.dir=$out" --dry-run "$@"
}

submit() {
    "$RANKPRESS" submit "$DIR/job.yaml" "output.dir=$out" --quiet "$@"
}

# ranks_do TEXT: what srun does in place of starting ranks; `commit N` is a checkpoint's generation
ranks_do() {
    stub srun "out=$(printf %q "$out")"'
        commit() {
            mkdir -p "$out/checkpoint"
            printf " \"generation\": %s,\n" "$1" >"$out/checkpoint/manifest.json"
        }
        echo "srun $*" >>"$CALLS"
        '"$1"
}

# go CODE [CALL]: the batch script once: its exit code (137: Slurm took it back), and one of the calls that it made
go() {
    run bash "$out/job.sbatch" 3>&-
    echo "exit code $status, wanted $1; calls: $(cat "$CALLS"); $output"
    [ "$status" = "$1" ]
    [ -z "${2-}" ] || grep -q "$2" "$CALLS"
}

never_requeued() {
    ! grep -q -e scontrol -e sbatch "$CALLS"
}

@test "--dry-run writes nothing; every key reaches the script, and shellcheck is content with it" {
    script cluster.slurm.nodes=2-4 cluster.slurm.tasks_per_node=8 cluster.slurm.cpus_per_task=12 \
        cluster.slurm.gpus_per_node=a100:4 cluster.slurm.time=90m cluster.slurm.partition=long \
        cluster.slurm.account=abc cluster.slurm.qos=low cluster.slurm.mem=64GiB cluster.slurm.job_name=night \
        cluster.slurm.extra='[--exclusive, "--exclude=n1,n2"]' cluster.slurm.modules='[gcc/12, openmpi/4.1]' \
        cluster.slurm.setup='["export A=\"b c\""]' cluster.slurm.signal_lead=3h cluster.slurm.program=/opt/rankpress \
        cluster.slurm.launcher_options='[--mpi=pmix_v4]' cluster.slurm.max_stops_without_progress=5 >"$out.sbatch"
    [ ! -e "$out" ]
    for line in '#SBATCH --job-name=night' "#SBATCH --output=$out/slurm/job-%j.log" '#SBATCH --requeue' \
        '#SBATCH --open-mode=append' '#SBATCH --signal=B:USR1@2700' '#SBATCH --nodes=2-4' '#SBATCH --mincpus=96' \
        tasks_per_node=8 cpus_per_task=12 '#SBATCH --gpus-per-node=a100:4' '#SBATCH --time=0-01:30:00' \
        '#SBATCH --partition=long' '#SBATCH --account=abc' '#SBATCH --qos=low' '#SBATCH --mem=65536M' \
        '#SBATCH --exclusive' '#SBATCH --exclude=n1,n2' 'export A="b c"' 'program=/opt/rankpress' 'max_stops=5' \
        'options+=(--mpi=pmix_v4)'; do
        grep -qxF -- "$line" "$out.sbatch"
    done
    grep -q '^module load gcc/12 ' "$out.sbatch"
    grep -q '^module load openmpi/4.1 ' "$out.sbatch"
    ! grep -q '{{' "$out.sbatch"
    shellcheck -s bash -S warning "$out.sbatch"
    [ ! -s "$CALLS" ]
}

@test "a job without cluster.slurm asks for one rank and leaves the rest to the site" {
    [ "$(script | grep -c '^#SBATCH')" = 7 ]
    script | grep -qx '#SBATCH --signal=B:USR1@300'
    script | grep -qx "program=$(readlink -f "$RANKPRESS")"
    cd "$BATS_TEST_DIRNAME/../.."
    "$RANKPRESS" submit examples/slurm.yaml --dry-run | grep -qx '#SBATCH --nodes=2-4'
}

@test "submit writes job and script, prints the id, notes it for status; values with blanks and quotes are quoted" {
    out="$BATS_TEST_TMPDIR/it's out"
    run submit cluster.slurm.cpus_per_task=3 cluster.slurm.mem=8GiB --dependency afterok:5
    [ "$status" = 0 ]
    [ "$output" = 41 ]
    [ "$(cat "$CALLS")" = "sbatch --parsable --dependency=afterok:5 $out/job.sbatch" ]
    grep -q '^  threads: 3$' "$out/job.yaml"
    grep -q '^  memory_per_rank: 8GiB$' "$out/job.yaml"
    "$RANKPRESS" status "$out" | grep -q 'Slurm jobs *41 submitted, RUNNING\|: queued'
    ranks_do 'exit 0'
    export SLURM_JOB_NUM_NODES=3
    go 0 "^srun --mpi=pmix --kill-on-bad-exit=1 --ntasks=3 --ntasks-per-node=1 --cpus-per-task=3 .*rankpress run $out/job.yaml$"
    "$RANKPRESS" status "$out" | grep -q '7 ended with exit code 0'
}

@test "what plan refuses is refused before anything is written" {
    run submit model=/nonexistent
    [ "$status" = 65 ]
    run submit recipe.0.gptq.bitz=3
    [ "$status" = 78 ]
    run submit cluster.slurm.mem=1MiB
    [ "$status" = 71 ]
    run submit cluster.slurm.nodes=4-2
    [ "$status" = 78 ]
    run submit cluster.slurm.launcher=mpirun cluster.slurm.container_image=a.sqsh
    [ "$status" = 78 ]
    [ ! -e "$out" ]
    [ ! -s "$CALLS" ]
    stub sbatch 'echo "sbatch: error: invalid partition" >&2; exit 1'
    run submit
    [ "$status" = 78 ]
    mkdir "$out.other"
    touch "$out.other/file"
    out=$out.other run submit
    [ "$status" = 78 ]
}

@test "without sbatch: one line" {
    local few=$BATS_TEST_TMPDIR/few
    mkdir "$few"
    ln -s /bin/sh "$few/sh"
    PATH=$few run "$RANKPRESS" submit "$DIR/job.yaml" "output.dir=$out" --quiet
    [ "$status" = 78 ]
    [ "$output" = 'rankpress: no sbatch here; --dry-run prints the script' ]
}

@test "--array: one job for each variant, in a folder of its own; all are checked first" {
    cat >"$BATS_TEST_TMPDIR/sweep.yaml" <<'SWEEP'
- {name: w3, recipe.0.gptq.bits: 3}
- {name: q8, output.formats: [{gguf: Q8_0}], recipe.0.gptq.ignore: [lm_head, "re:.*down_proj"]}
SWEEP
    run submit --array "$BATS_TEST_TMPDIR/sweep.yaml"
    [ "$status" = 0 ]
    [ "$(grep -c '^sbatch' "$CALLS")" = 2 ]
    grep -q '^ *bits: 3$' "$out/w3/job.yaml"
    grep -q 'Q8_0' "$out/q8/job.yaml"
    grep -q 're:.\*down_proj' "$out/q8/job.yaml"
    grep -q '^#SBATCH --job-name=q8$' "$out/q8/job.sbatch"
    rm -r "$out"
    echo '- {name: w9, recipe.0.gptq.bits: 9}' >>"$BATS_TEST_TMPDIR/sweep.yaml"
    run submit --array "$BATS_TEST_TMPDIR/sweep.yaml"
    [ "$status" = 78 ]
    [[ $output == *"variant w9: recipe.0.gptq.bits=9"* ]]
    [ ! -e "$out" ]
}

@test "the script ends after 0, a failed gate and what would fail again; never a requeue" {
    submit
    : >"$CALLS"
    for code in 0 64 65 70 71 77 78 73; do
        ranks_do "commit 1$code; exit $code"
        go "$code"
        never_requeued
    done
    : >"$out/report.json"
    ranks_do 'exit 1'
    go 1
    never_requeued
}

@test "the script requeues after 75 and after the end of a peer, while there is progress" {
    submit
    : >"$CALLS"
    for generation in 1 2 3 4 5; do
        ranks_do "commit $generation; exit 75"
        go 137 '^scontrol requeue 7$'
    done
    for code in 137 143 205 1; do
        generation=$((generation + 1))
        : >"$CALLS"
        ranks_do "commit $generation; exit $code"
        go 137 '^scontrol requeue 7$'
    done
}

@test "a rank's own exit code in the log counts more than the launcher's" {
    submit
    ranks_do 'mkdir -p "$out/log"
        echo "{\"t\":1,\"rank\":0,\"event\":\"end\",\"code\":65,\"message\":\"m\"}" >>"$out/log/rank-0000.jsonl"; exit 143'
    : >"$CALLS"
    go 65
    never_requeued
}

@test "without progress the script gives up: after the stops that the job allows, whatever the codes" {
    submit cluster.slurm.max_stops_without_progress=2
    ranks_do 'commit 4; exit 75'
    go 137 scontrol
    ranks_do 'exit 137'
    go 137 scontrol
    : >"$CALLS"
    go 137
    [[ $output == *"gives up"* ]]
    never_requeued
    submit
    ranks_do 'commit 5; exit 75'
    go 137 scontrol
}

@test "where a job may not requeue, a new one goes on" {
    submit
    stub scontrol 'echo "scontrol $*" >>"$CALLS"; exit 1'
    ranks_do 'commit 1; exit 75'
    go 75 "^sbatch --parsable $out/job.sbatch"
    grep -q '"job": "41", "event": "submitted"' "$out/slurm/events.jsonl"
}

@test "what Slurm ends itself is not requeued" {
    submit
    : >"$CALLS"
    stub squeue 'case $* in *%T*) echo COMPLETING ;; *) echo N/A ;; esac'
    ranks_do 'commit 1; exit 75'
    go 75
    never_requeued
}

@test "a signal reaches the ranks once, and the script waits for them" {
    submit
    stub squeue 'case $* in *%T*) echo RUNNING ;; *) date -d "+1 hour" +%FT%T ;; esac'
    ranks_do 'trap "echo got USR1 >>\"$CALLS\"; n=done" USR1
        echo "end $(($SLURM_JOB_END_TIME - $(date +%s)))" >>"$CALLS"
        kill -USR1 $PPID; kill -TERM $PPID
        while [ -z "${n-}" ]; do :; done
        commit 1; exit 75'
    go 137 '^scontrol requeue 7$'
    [ "$(grep -c 'got USR1' "$CALLS")" = 1 ]
    grep -q '^end 3[56]..$' "$CALLS"
}

@test "ranks that do not stop: the script is back in the queue before the time limit" {
    submit
    stub squeue 'case $* in *%T*) echo RUNNING ;; *) date -d "+22 seconds" +%FT%T ;; esac'
    ranks_do 'trap "" USR1; exec /bin/sleep 20 >/dev/null 2>&1'
    SECONDS=0
    go 137 '^scontrol requeue 7$'
    [[ $output == *"have not stopped"* ]]
    [ "$SECONDS" -lt 15 ]
}

@test "after the end of a node the script waits for the old lock, and tries a new step" {
    submit
    export SLURM_RESTART_COUNT=1
    ranks_do 'n=$(grep -c ^srun "$CALLS")
        [ "$n" -ge 3 ] || exit 73
        exit 0'
    go 0 '^sleep 30$'
    : >"$CALLS"
    ranks_do 'n=$(grep -c ^srun "$CALLS"); [ "$n" -ge 2 ] || exit 137; exit 0'
    go 0
    never_requeued
}

@test "container: Pyxis' options reach srun, and the program is the image's" {
    submit cluster.slurm.container_image=docker://site/rankpress:1 \
        "cluster.slurm.container_mounts=[$DIR:$DIR, /scratch:/scratch]"
    ranks_do 'exit 0'
    go 0 "^srun .* --container-image=docker://site/rankpress:1 \
--container-mounts=$DIR:$DIR,/scratch:/scratch rankpress run $out/job.yaml$"
}

@test "modules are loaded by the site's module command; one that is missing ends the job" {
    mkdir -p "$BATS_TEST_TMPDIR/init"
    echo 'module() { [ "$2" != missing ] && export LOADED="${LOADED-} $2"; }' >"$BATS_TEST_TMPDIR/init/bash"
    export MODULESHOME=$BATS_TEST_TMPDIR
    submit cluster.slurm.modules='[gcc/12, openmpi]' cluster.slurm.setup='["export LOADED=\"$LOADED and more\""]'
    ranks_do 'echo "loaded:$LOADED" >>"$CALLS"; exit 0'
    go 0 '^loaded: gcc/12 openmpi and more$'
    submit cluster.slurm.modules='[missing]'
    : >"$CALLS"
    go 78
    never_requeued
}
