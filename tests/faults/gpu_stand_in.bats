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
    done <<<"44 1 2 tile
56 1 3 gram tile
19 3 1 gram tile"
}
