# GGUF outputs by size: the file keeps within it, and the types that were measured do not depend on
# ranks, nor on when a run was killed.

bats_require_minimum_version 1.5.0

setup_file() {
    load common
    sized_job "$BATS_FILE_TMPDIR/job.yaml" "$BATS_FILE_TMPDIR/undisturbed"
    alone run "$BATS_FILE_TMPDIR/job.yaml" >"$BATS_FILE_TMPDIR/undisturbed.log" 2>&1
    digests "$BATS_FILE_TMPDIR/undisturbed" >"$BATS_FILE_TMPDIR/reference"
}

setup() {
    load common
}

# sized_job FILE OUT
sized_job() {
    cat >"$1" <<JOB
model: $booklm
output: {dir: $2, formats: [{gguf: {target_bpw: 4.6}}, {gguf: {target_size: 3MB}}]}
calibration: {text: $booklm/calibration.txt, num_calibration_samples: 24, max_seq_length: 96, block_tokens: 192}
recipe:
  - gptq: {drift: full}
JOB
}

# record OUT K: what the report says of an output's size
record() {
    python3 -c 'import json, sys
print(json.dumps(json.load(open(sys.argv[1] + "/report.json"))["outputs"][int(sys.argv[2])]["size_target"]))' "$@"
}

# wait_for COMMAND...: until it succeeds
wait_for() {
    for _ in $(seq 6000); do
        "$@" && return
        sleep 0.01
    done
    return 1
}

start_two() {
    setsid "$root/scripts/mpirun" -n 2 "$rankpress" run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$1" \
        >"$1.log" 2>&1 3>&- &
    launcher=$!
}

@test "the files are not larger than asked for, and the report says what was chosen" {
    out=$BATS_FILE_TMPDIR/undisturbed
    python3 - "$out" <<'PYTHON'
import json, os, sys
out = sys.argv[1]
report = json.load(open(out + "/report.json"))
names = ["model-4.60bpw.gguf", "model-3MB.gguf"]
for o, name in zip(report["outputs"], names):
    t = o["size_target"]
    size = os.path.getsize(f"{out}/{name}")
    assert o["name"] == name and size == o["bytes"] == t["bytes"] <= t["limit_bytes"], (name, size, t)
    assert t["measured"]["bytes"] > 0.99 * t["limit_bytes"], t
    assert t["plain"]["bytes"] <= t["limit_bytes"] and t["kept_aside_tokens"] > 0
    better = t["measured"]["kl_divergence"] <= t["plain"]["kl_divergence"]
    assert t["taken"] == ("measured" if better else "plain") and better, t
    types = {e["name"]: e["type"] for e in t["tensors"]}
    assert {k: list(types.values()).count(k) for k in set(types.values())} == o["types"] == t["measured"]["types"]
assert report["outputs"][0]["bits_per_weight"] <= 4.6
PYTHON
    grep -q 'model-4.60bpw.gguf: measured types taken' "$out.log"
    "$rankpress" verify "$out"
}

@test "the same bytes and the same choice on 1 to 4 ranks, 1 and 2 threads" {
    [ "$(wc -l <"$BATS_FILE_TMPDIR/reference")" = 2 ]
    for nranks in 1 2 3 4; do
        out=$BATS_TEST_TMPDIR/out-$nranks
        on_ranks "$nranks" run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$out" cluster.threads=$((1 + nranks % 2)) \
            >"$out.log" 2>&1
        same_digests "$out" "$BATS_FILE_TMPDIR/reference"
        for k in 0 1; do
            diff <(record "$out" $k) <(record "$BATS_FILE_TMPDIR/undisturbed" $k)
        done
    done
}

@test "killed once the types are in the checkpoint: they are taken from there, the same bytes" {
    out=$BATS_TEST_TMPDIR/out
    start_two "$out"
    wait_for grep -qs '"types/1"' "$out/checkpoint/manifest.json"
    mapfile -t pids < <(descendants "$launcher")
    kill -9 "${pids[@]}"
    wait "$launcher" || true
    [ ! -e "$out/report.json" ]
    on_ranks 3 resume "$out" >"$out.log2" 2>&1
    ! grep -q 'measure types' "$out.log2"
    same_digests "$out" "$BATS_FILE_TMPDIR/reference"
    diff <(record "$out" 0) <(record "$BATS_FILE_TMPDIR/undisturbed" 0)
}

@test "stopped while types are measured: a resumed run measures again" {
    out=$BATS_TEST_TMPDIR/out
    start_two "$out"
    wait_for grep -qs '"measured"' "$out/log/rank-0000.jsonl"
    kill -TERM -- "-$launcher"
    rc=0
    wait "$launcher" || rc=$?
    [ "$rc" != 0 ]
    [ ! -e "$out/report.json" ]
    on_ranks 1 resume "$out" >"$out.log2" 2>&1
    grep -q 'measure types' "$out.log2"
    same_digests "$out" "$BATS_FILE_TMPDIR/reference"
}

@test "a size below the smallest: exit code 78, the smallest possible one is named and possible" {
    run -78 alone plan "$BATS_FILE_TMPDIR/job.yaml" output.formats.1.gguf.target_size=1MB
    [[ $output == *"output model-1MB.gguf: 1000000 bytes are asked for: the smallest possible file has "* ]]
    least=$(sed 's/.*smallest possible file has \([0-9]*\).*/\1/' <<<"$output")
    alone plan "$BATS_FILE_TMPDIR/job.yaml" "output.formats.1.gguf.target_size=$least"
    run -78 alone plan "$BATS_FILE_TMPDIR/job.yaml" "output.formats.1.gguf.target_size=$((least - 1))"
    bpw=$(sed 's/.*(target_bpw \([0-9.]*\).*/\1/' <<<"$output")
    alone plan "$BATS_FILE_TMPDIR/job.yaml" 'output.formats=[{gguf: Q4_0}, {gguf: {target_bpw: '"$bpw"'}}]'
    out=$BATS_TEST_TMPDIR/out
    alone run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$out" "output.formats.1.gguf.target_size=$least" \
        output.formats.1.gguf.name=least.gguf
    [ "$(stat -c %s "$out/least.gguf")" = "$least" ]
}

@test "a size beyond the largest: the largest types, and that is said" {
    out=$BATS_TEST_TMPDIR/out
    alone run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$out" output.formats.1.gguf.target_size=1GB \
        output.formats.1.gguf.name=most.gguf >"$out.log"
    grep -q 'the largest types do not fill what is asked for' "$out.log"
    record "$out" 1 | grep -q '"is_beyond_largest": true'
    record "$out" 1 | grep -qE '"types": {"F32": 13, "Q8_0": 43}'
}

@test "types given by name stay, in a size in parts, too" {
    out=$BATS_TEST_TMPDIR/out
    alone run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$out" 'output.formats.1.gguf.tensor_types=["attn_v=Q8_0"]' \
        output.formats.1.gguf.token_embedding_type=Q4_K output.formats.1.gguf.max_shard_size=700kB
    record "$out" 1 | python3 -c 'import json, sys
types = {e["name"]: e["type"] for e in json.load(sys.stdin)["tensors"]}
assert types["token_embd.weight"] == "Q4_K"
assert {t for n, t in types.items() if "attn_v" in n} == {"Q8_0"}'
    [ "$(cat "$out"/model-3MB*.gguf | wc -c)" -le 3000000 ]
    [ "$(find "$out" -name 'model-3MB*.gguf' | wc -l)" -ge 4 ]
}

@test "types that are read alone stay where the recipe leaves them" {
    dir=$BATS_TEST_TMPDIR
    alone run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$dir/four" recipe=[] 'output.formats=[{gguf: Q4_0}]' >/dev/null
    python3 "$root/tests/faults/mutate_gguf.py" "$dir/four/model-Q4_0.gguf" "$dir/nvfp4.gguf" nvfp4
    options=("model=$dir/nvfp4.gguf" 'recipe=[{rtn: {targets: ["re:.*down_proj"]}}]' allow_requantize=true)
    alone run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$dir/out" "${options[@]}" 'output.formats=[{gguf: {target_bpw: 6}}]'
    alone verify "$dir/out" | grep -qE ': good, .* 36 NVFP4'
    record "$dir/out" 0 | grep -qE '"measured": .*"kl_divergence": [0-9.]+,'
    run -78 alone run "$BATS_FILE_TMPDIR/job.yaml" "output.dir=$dir/none" "${options[@]}" 'recipe=[{gptq: {}}]' \
        'output.formats=[{gguf: {type: Q4_0, tensor_types: ["blk=NVFP4"]}}]'
    [[ $output == *"NVFP4: not a quantised GGUF type of this program" ]]
}
