# What holds for jobs on CPUs holds with the CUDA back end, which runs here on the stand-in of
# tests/cuda_host: the bytes depend on no number of ranks, a stop saves what is finished, and the
# figures are the CPU's but for the rounding of products.

setup_file() {
    load common
    make_model "$BATS_FILE_TMPDIR/llama"
}

setup() {
    load common
    model=$BATS_FILE_TMPDIR/llama
    dir=$BATS_TEST_TMPDIR
    cpu=$rankpress
    rankpress=$build/tests/cuda_host/rankpress_cuda_host
}

# write_gpu_job FILE OUT: blocks enough for three ranks, of which some are kept aside; every kind of
# linear: with drift and without, two dampenings and a plain one in a site
write_gpu_job() {
    cat >"$1" <<JOB
model: $model
backend: cuda
output:
  dir: $2
  imatrix: imatrix.gguf
  formats: [{gptq: {}}, {gguf: Q4_K_M}, {safetensors: {}}]
calibration: {text: $booklm/calibration.txt, num_calibration_samples: 12, max_seq_length: 64, block_tokens: 64}
recipe:
  - gptq: {targets: ['re:.*v_proj', 're:.*gate_proj'], scheme: W8A16, group_size: 32, dampening_frac: 0.05, drift: none}
  - rtn: {targets: ['re:.*k_proj'], scheme: W4A16, group_size: 32}
  - gptq: {targets: [Linear], ignore: [lm_head], scheme: W4A16, group_size: 32}
JOB
}

reference() {
    write_gpu_job "$dir/job.yaml" "$dir/reference"
    on_ranks 1 run "$dir/job.yaml"
    grep -q '"arithmetic": "cuda ' "$dir/reference/report.json"
    digests "$dir/reference" >"$dir/digests-wanted"
    [ "$(wc -l <"$dir/digests-wanted")" -ge 5 ]
}

# facts OUT: "tensor form loss taken" line by line
facts() {
    python3 - "$1/report.json" <<'PYTHON'
import json, sys
def walk(node):
    if isinstance(node, dict):
        if "loss" in node and "drift" in node:
            print(node["tensor"], node["form"], node["loss"], (node["drift"] or {}).get("taken"))
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            walk(item)
walk(json.load(open(sys.argv[1])))
PYTHON
}

@test "on GPUs: the same bytes on 1 to 3 ranks" {
    reference
    for nranks in 2 3; do
        write_gpu_job "$dir/job.yaml" "$dir/out-$nranks"
        on_ranks "$nranks" run "$dir/job.yaml"
        same_digests "$dir/out-$nranks" "$dir/digests-wanted"
    done
}

@test "on a GPU: the losses of the first site are the CPU's, and drifts are corrected" {
    reference
    write_gpu_job "$dir/job.yaml" "$dir/cpu"
    "$cpu" run "$dir/job.yaml" backend=cpu
    facts "$dir/reference" >"$dir/gpu.txt"
    facts "$dir/cpu" >"$dir/cpu.txt"
    grep -q True "$dir/gpu.txt"
    python3 - "$dir/gpu.txt" "$dir/cpu.txt" <<'PYTHON'
import sys
gpu, cpu = ([line.split() for line in open(path)] for path in sys.argv[1:])
assert [line[:2] for line in gpu] == [line[:2] for line in cpu], "not the same tensors and forms"
first = [(g, c) for g, c in zip(gpu, cpu) if "layers.0.self_attn" in g[0] and "o_proj" not in g[0]]
assert len(first) == 6 and any(float(c[2]) > 0 for _, c in first)
for g, c in first:  # products of bf16; later sites follow from codes that fell otherwise
    assert abs(float(g[2]) - float(c[2])) <= 0.02 * float(c[2]), (g, c)
PYTHON
}

@test "on GPUs: stopped in the middle of a layer, resumed on another number of ranks" {
    local nth before after parts seen=
    reference
    write_gpu_job "$dir/job.yaml" "$dir/unused"
    while read -r nth before after parts; do
        out=$dir/at-$nth
        code=0
        RP_FAULT=stop:$nth on_ranks "$before" run "$dir/job.yaml" output.dir="$out" \
            cluster.checkpoint.partial=always || code=$?
        [ "$code" = 75 ]
        seen=$(grep -o 'passing/part/[0-9/]*[a-z]*' "$out/checkpoint/manifest.json" | grep -o '[a-z]*$' | sort -u | tr '\n' ' ')
        echo "stopped at look $nth of $before ranks with parts: $seen"
        [ "$seen" = "$parts " ]
        on_ranks "$after" resume "$out"
        same_digests "$out" "$dir/digests-wanted"
    done <<<"51 1 2 tile
44 1 3 gram tile
16 3 1 gram tile"
}

# pinned OUT: how many algorithms its last run went on with, on each rank
pinned() {
    grep -h '"event":"algorithms"' "$1"/log/*.jsonl | tail -n 1 | grep -o '"pinned":[0-9]*' | cut -d : -f 2
}

@test "on GPUs: a job that goes on multiplies by the algorithms it began with, whatever the library prefers by then" {
    local before after nth
    reference
    write_gpu_job "$dir/job.yaml" "$dir/out"
    RP_CUDA_HOST=algorithms=down on_ranks 1 run "$dir/job.yaml"
    ! same_digests "$dir/out" "$dir/digests-wanted" # it matters by which

    while read -r before nth after; do
        out=$dir/at-$nth
        code=0
        RP_FAULT=stop:$nth on_ranks "$before" run "$dir/job.yaml" output.dir="$out" 2>"$dir/stderr" || code=$?
        [ "$code" = 75 ]
        grep 'in layer 3 of 4' "$dir/stderr"
        rm -r "$out/log"
        code=0
        RP_CUDA_HOST=algorithms=one on_ranks "$after" resume "$out" 2>"$dir/stderr" || code=$?
        cat "$dir/stderr"
        [ "$code" = 71 ]
        [ "$(grep '^rankpress: ' "$dir/stderr" | grep -vc warning)" = 1 ]
        grep 'does not accept the algorithm any more by which this job computes bf16 .* rows=.*: CUBLAS_STATUS_NOT_SUPPORTED' \
            "$dir/stderr"

        RP_CUDA_HOST=algorithms=down on_ranks "$after" resume "$out"
        [ "$(pinned "$out")" -ge 10 ]
        same_digests "$out" "$dir/digests-wanted"
    done <<<"1 700 3
2 400 1"
    grep -ahq '^tf32 .* algorithm=66 .* split_k=1 reduction=0 ' "$out"/checkpoint/*.h5
    for file in "$out"/checkpoint/*.h5; do
        "$rankpress" inspect --json "$file"
    done >"$dir/inspected"
    grep -A 1 '"unit": "algorithms"' "$dir/inspected" | grep '"kind": "text"'
}

@test "on GPUs: ranks whose libraries choose otherwise end the job with the shape" {
    write_gpu_job "$dir/job.yaml" "$dir/out"
    cat >"$dir/other" <<OTHER
#!/bin/sh
[ "\${OMPI_COMM_WORLD_RANK:-\$PMI_RANK}" = 0 ] || export RP_CUDA_HOST=algorithms=down
exec "$rankpress" "\$@"
OTHER
    chmod +x "$dir/other"
    code=0
    rankpress=$dir/other on_ranks 2 run "$dir/job.yaml" 2>"$dir/stderr" || code=$?
    cat "$dir/stderr"
    [ "$code" = 70 ]
    grep 'rankpress: two ranks compute bf16 .* rows=.* by different algorithms' "$dir/stderr"
    nothing_final "$dir/out"
}

# arena OUT: most of the GPU's arena that was ever taken, bytes
arena() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["gpu"]["peak_bytes"])' "$1/report.json"
}

# had_activations OUT HOW: on every rank; resident, or streamed
had_activations() {
    local said
    said=$(grep -h '"event":"gpu"' "$1"/log/*.jsonl | grep -o '"activations":"[a-z]*"' | sort -u)
    [ "$said" = "\"activations\":\"$2\"" ]
}

# least_mib JOB: memory of a GPU that the plan finds just enough
least_mib() {
    local mib=64
    while RP_CUDA_HOST=mib=$((mib - 1)) alone plan --json "$1" >/dev/null 2>&1; do
        mib=$((mib - 1))
    done
    echo "$mib"
}

@test "on GPUs without room for the activations: streamed from the host, the same bytes, with less still refused" {
    local nth before after mib
    model=$dir/model
    make_model "$model" --set num_hidden_layers=2
    write_gpu_job "$dir/job.yaml" "$dir/reference"
    sed -i 's/num_calibration_samples: 12/num_calibration_samples: 60/' "$dir/job.yaml"
    on_ranks 1 run "$dir/job.yaml"
    had_activations "$dir/reference" resident
    digests "$dir/reference" >"$dir/digests-wanted"
    [ "$(wc -l <"$dir/digests-wanted")" -ge 5 ]

    mib=$(least_mib "$dir/job.yaml")
    RP_CUDA_HOST=mib=$mib alone plan "$dir/job.yaml" | grep 'activations, streamed to its GPU'
    RP_CUDA_HOST=mib=$mib on_ranks 1 run "$dir/job.yaml" output.dir="$dir/out-1"
    had_activations "$dir/out-1" streamed
    same_digests "$dir/out-1" "$dir/digests-wanted"
    [ "$(($(arena "$dir/out-1") * 4))" -lt "$(arena "$dir/reference")" ]

    export RP_CUDA_HOST=gpus=2,mib=$((mib + 1)),order=down # a second rank exchanges
    on_ranks 2 run "$dir/job.yaml" output.dir="$dir/out-2"
    had_activations "$dir/out-2" streamed
    same_digests "$dir/out-2" "$dir/digests-wanted"

    cat >"$dir/uneven" <<UNEVEN
#!/bin/sh
[ "\${OMPI_COMM_WORLD_RANK:-\$PMI_RANK}" = 1 ] || export RP_CUDA_HOST=gpus=2
exec "$rankpress" "\$@"
UNEVEN
    chmod +x "$dir/uneven"
    rankpress=$dir/uneven on_ranks 2 run "$dir/job.yaml" output.dir="$dir/uneven-2"
    had_activations "$dir/uneven-2" streamed # on both, where one has no room
    same_digests "$dir/uneven-2" "$dir/digests-wanted"

    while read -r nth before after; do # with all of a site's streams in the checkpoint
        out=$dir/at-$nth
        code=0
        RP_FAULT=stop:$nth on_ranks "$before" run "$dir/job.yaml" output.dir="$out" \
            cluster.checkpoint.partial=always || code=$?
        [ "$code" = 75 ]
        grep -q '"passing/full_inputs/' "$out/checkpoint/manifest.json"
        on_ranks "$after" resume "$out"
        had_activations "$out" streamed
        same_digests "$out" "$dir/digests-wanted"
    done <<<"220 1 2
500 2 1"

    export RP_CUDA_HOST=mib=$((mib - 1))
    for verb in plan run; do
        run "$rankpress" "$verb" "$dir/job.yaml" output.dir="$dir/refused"
        [ "$status" = 71 ]
        [[ "$output" = *"a rank's GPU needs 0."*" GB with the activations on the host, 0."*" GB of it are free"* ]]
        [ ! -e "$dir/refused" ]
    done
}

# figures OUT: perplexity before and after, KL divergence; of its GPU: arena's peak over plan
figures() {
    python3 - "$1/report.json" <<'PYTHON'
import json, sys
r = json.load(open(sys.argv[1]))
after = r["outputs"][0]["evaluation"]
print(r["source"]["evaluation"]["perplexity"], after["perplexity"], after["kl_divergence"],
      r["gpu"]["peak_bytes"] / r["gpu"]["planned_bytes"] if r["gpu"] else 1)
PYTHON
}

@test "a whole job on both back ends: perplexity within 0.2 %, KL within 5 %; memory as planned" {
    model=$booklm
    cat >"$dir/job.yaml" <<JOB
model: $booklm
output: {dir: $dir/out, formats: [{gptq: {}}]}
calibration: {text: $booklm/calibration.txt, num_calibration_samples: 16, max_seq_length: 128}
recipe: [{gptq: {targets: [Linear], ignore: [lm_head], scheme: W4A16, group_size: 64}}]
evaluate: {text: $booklm/heldout.txt, context: 128, max_windows: 24, metrics: [perplexity, kl_divergence]}
JOB
    "$cpu" run --quiet "$dir/job.yaml" backend=cpu output.dir="$dir/cpu"
    "$rankpress" run --quiet "$dir/job.yaml" backend=cuda output.dir="$dir/gpu"
    figures "$dir/cpu" >"$dir/cpu.txt"
    figures "$dir/gpu" >"$dir/gpu.txt"
    cat "$dir/cpu.txt" "$dir/gpu.txt"
    paste -d ' ' "$dir/cpu.txt" "$dir/gpu.txt" | awk 'function off(a, b) { return (a > b ? a - b : b - a) / a }
        {exit !(off($1, $5) < 0.002 && off($2, $6) < 0.002 && off($3, $7) < 0.05 && $8 > 0.9 && $8 <= 1)}'
}

@test "a checkpoint goes from one back end to the other: what is finished stays, with a warning" {
    write_gpu_job "$dir/job.yaml" "$dir/out"
    code=0
    RP_FAULT=stop:380 "$cpu" run "$dir/job.yaml" backend=cpu cluster.threads=1 cluster.checkpoint.partial=always || code=$?
    [ "$code" = 75 ]
    grep -o '"layer/[^"]*/facts"' "$dir/out/checkpoint/manifest.json" | sort -u >"$dir/finished"
    [ -s "$dir/finished" ]
    grep -q passing/ "$dir/out/checkpoint/manifest.json"
    "$rankpress" run "$dir/job.yaml" 2>"$dir/stderr"
    grep 'warning: .*arithmetic: cpu/.* -> cuda .*: what is finished is kept' "$dir/stderr"
    "$rankpress" verify "$dir/out" >"$dir/verify"
    grep -o '"layer/[^"]*/facts"' "$dir/out/checkpoint/manifest.json" | sort -u >"$dir/all"
    [ "$(comm -13 "$dir/all" "$dir/finished" | wc -l)" = 0 ]
}

# does_without REASON LINE: backend=cuda is refused before anything is written; auto says so and runs on the CPU
does_without() {
    write_job "$dir/job.yaml" "$model" "$dir/out"
    run "$rankpress" run "$dir/job.yaml" backend=cuda
    [ "$status" = 71 ]
    [ "$output" = "rankpress: backend is cuda, but there is no GPU$1" ]
    [ ! -e "$dir/out" ]
    "$rankpress" run "$dir/job.yaml" >"$dir/stdout"
    grep -qx "$2" "$dir/stdout"
}

@test "without a GPU: the CPU's back end says so; backend=cuda is refused before anything is written" {
    RP_CUDA_HOST=gpus=0 does_without "" 'no GPU: cpu back end'
}

@test "a driver that is too old is named" {
    RP_CUDA_HOST=driver=12080 does_without ": cudaErrorInsufficientDriver" 'no GPU (cudaErrorInsufficientDriver): cpu back end'
}

# ends_with CODE LINE COMMAND ARG...: two ranks, with a GPU opened beside the work (and without) and nothing left
ends_with() {
    local wanted=$1 line=$2 code fault
    shift 2
    for fault in never:1 thread:1; do # the first thread that is asked for is the one that opens
        code=0
        RP_FAULT=$fault on_ranks 2 "$@" >"$dir/said" 2>&1 || code=$?
        cat "$dir/said"
        [ "$code" = "$wanted" ]
        [ "$(grep '^rankpress: ' "$dir/said")" = "rankpress: $line" ]
        [ ! -e "$dir/out" ]
    done
}

@test "a GPU that cannot be opened, libraries that are missing: one line, whether or not they were opened ahead" {
    local job=$dir/job.yaml
    local -a text=(--text "$booklm/heldout.txt" --context 32 --max-windows 2)
    write_gpu_job "$job" "$dir/out"
    RP_CUDA_HOST=gpus=2,broken=0 ends_with 71 'rank 0: GPU 0: cudaErrorMemoryAllocation' run "$job"
    RP_CUDA_HOST=gpus=2,broken=1 ends_with 71 'rank 1: GPU 1: cudaErrorMemoryAllocation' run "$job"
    RP_CUDA_HOST=gpus=2,libraries=0 ends_with 71 'libcublas.so: cannot open shared object file' run "$job"
    RP_CUDA_HOST=gpus=2,broken=1 ends_with 71 'rank 1: GPU 1: cudaErrorMemoryAllocation' run "$job" backend=auto
    RP_CUDA_HOST=gpus=2,broken=1 ends_with 65 "$dir/none: no such file or folder" \
        run "$job" model="$dir/none"
    RP_CUDA_HOST=gpus=2,broken=1 ends_with 71 'rank 1: GPU 1: cudaErrorMemoryAllocation' eval "$model" "${text[@]}"
    RP_CUDA_HOST=gpus=2,libraries=0 ends_with 71 'libcublas.so: cannot open shared object file' \
        eval "$model" "${text[@]}"
    RP_CUDA_HOST=gpus=2,broken=1 ends_with 65 "$dir/none: no such file or folder" \
        eval "$dir/none" "${text[@]}"
}

@test "on a GPU: a text that cannot be used is said as on the CPU, in the same place" {
    local text
    export RP_CUDA_HOST=gpus=2
    write_gpu_job "$dir/job.yaml" "$dir/out"
    printf 'too short' >"$dir/short.txt"
    for text in none.txt short.txt; do
        for backend in cpu cuda; do
            code=0
            on_ranks 2 run "$dir/job.yaml" output.dir="$dir/$text-$backend" backend="$backend" \
                calibration.text="$dir/$text" >"$dir/said" 2>&1 || code=$?
            grep '^rankpress: ' "$dir/said" >"$dir/$backend.txt"
            echo "$code" >>"$dir/$backend.txt"
        done
        cat "$dir/cpu.txt"
        grep -q "$dir/$text" "$dir/cpu.txt"
        diff "$dir/cpu.txt" "$dir/cuda.txt"
    done
}
