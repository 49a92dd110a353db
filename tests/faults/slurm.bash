# Shared by the tests on Slurm: a private cluster of two virtual nodes, and jobs in it. The cluster's scripts stand beside the
# project, in shared/slurm-lab; without them, or where Slurm cannot be installed, the tests are skipped.

# shellcheck disable=SC1091,SC2154
. "$BATS_TEST_DIRNAME/common.bash"

lab_scripts=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)/../shared/slurm-lab

# start_lab DIR: sets SLURM_CONF and what Open MPI needs there. False, with WHY_NOT set, where there can be none:
# bats takes no skip in setup_file, so each test has to.
start_lab() {
    export WHY_NOT=
    if [ ! -x "$lab_scripts/start.sh" ]; then
        WHY_NOT='no ../shared/slurm-lab'
    elif ! "$lab_scripts/start.sh" --dir "$1" >"$1.log" 2>&1 3>&-; then
        WHY_NOT="no Slurm: $(tail -n 1 "$1.log")"
    fi
    [ -z "$WHY_NOT" ] || return 1
    # shellcheck disable=SC1091
    . "$1/env.sh"
}

# stop_lab DIR
stop_lab() {
    [ ! -d "$1" ] || "$lab_scripts/stop.sh" --dir "$1" --purge
    rm -f "$1.log"
}

# write_slurm_job FILE OUT SAMPLES: on two nodes of two ranks; a layer takes a second or so for every 20 samples
write_slurm_job() {
    # shellcheck disable=SC2154
    cat >"$1" <<JOB
model: $booklm
output: {dir: $2, formats: [{gptq: {}}, {gguf: Q4_0}]}
calibration: {text: $booklm/calibration.txt, num_calibration_samples: $3, max_seq_length: 512}
recipe: [{gptq: {group_size: 32}}]
cluster:
  threads: 1
  slurm: {nodes: 2, tasks_per_node: 2, time: 10m, signal_lead: 1m}
JOB
}

# submit ARG...: sets `job`
submit() {
    job=$(alone submit "$@" --quiet)
    echo "job $job: $*"
}

job_state() {
    squeue -h -t all -j "$1" -o %T
}

# wait_until SECONDS COMMAND...: until it is true
wait_until() {
    local limit=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$limit" ] || return 1
        sleep 0.2
    done
}

# has_committed OUT N: the checkpoint has N generations or more
has_committed() {
    local n
    n=$(grep -m1 -o '"generation": [0-9]*' "$1/checkpoint/manifest.json" 2>/dev/null | tr -dc 0-9)
    [ "${n:-0}" -ge "$2" ]
}

is_not_running() {
    [ "$(job_state "$1")" != RUNNING ]
}

has_ended() {
    case $(job_state "$1") in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) ;; *) return 1 ;; esac
}

# events OUT EVENT: how often
events() {
    grep -c "\"event\": \"$2\"" "$1/slurm/events.jsonl"
}

# has_events OUT EVENT N: N times or more
has_events() {
    [ "$(events "$1" "$2")" -ge "$3" ]
}

# completed OUT SECONDS: the job ends well in that time, with the bytes of REFERENCE; else its log
completed() {
    if wait_until "$2" has_ended "$job" && [ "$(job_state "$job")" = COMPLETED ]; then
        same_digests "$1" "$REFERENCE"
        return
    fi
    squeue -t all
    cat "$1"/slurm/job-*.log
    return 1
}
