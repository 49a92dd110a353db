# A small job from plan to verify, as a person types it.

bats_require_minimum_version 1.5.0

setup_file() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    export RANKPRESS=${RP_BUILD:-$root/build/release}/jobs/rankpress
    export DIR=$BATS_FILE_TMPDIR
    python3 "$root/tests/bench/make_model.py" "$DIR/model"
    cat >"$DIR/job.yaml" <<JOB
model: $DIR/model
output: {dir: $DIR/out, formats: [{gguf: Q4_0}, {gptq: {}}]}
calibration: {text: $root/examples/models/booklm/calibration.txt, num_calibration_samples: 8, max_seq_length: 64}
recipe: [{gptq: {group_size: 32}}]
JOB
    "$RANKPRESS" run "$DIR/job.yaml" --quiet >"$DIR/run.out" 2>"$DIR/run.err"
}

@test "run --quiet prints nothing and leaves outputs, report, log and the resolved job" {
    [ ! -s "$DIR/run.out" ]
    [ ! -s "$DIR/run.err" ]
    [ -s "$DIR/out/model-Q4_0.gguf" ]
    [ -s "$DIR/out/gptq/model.safetensors" ]
    grep -q '^  - gptq$' "$DIR/out/gptq/README.md"
    grep -q '^  - gguf$' "$DIR/out/README.md"
    python3 - "$DIR/out" <<'PYTHON'
import glob, json, sys, xml.dom.minidom
json.load(open(sys.argv[1] + "/report.json"))
xml.dom.minidom.parse(sys.argv[1] + "/report.html")
lines = [json.loads(l) for f in glob.glob(sys.argv[1] + "/log/*.jsonl") for l in open(f)]
assert lines and all(l["rank"] == 0 and "event" in l for l in lines)
PYTHON
    grep -q "^ *bits: 4$" "$DIR/out/job.yaml"
}

@test "report.json has the documented fields alone, and evaluated figures come last on stdout" {
    "$RANKPRESS" run "$DIR/job.yaml" "output.dir=$BATS_TEST_TMPDIR/out" evaluate.context=32 evaluate.max_windows=2 \
        "evaluate.text=$BATS_TEST_DIRNAME/../../README.md" >"$BATS_TEST_TMPDIR/table" 2>/dev/null
    [ "$(tail -n 1 "$BATS_TEST_TMPDIR/table")" = "  report: $BATS_TEST_TMPDIR/out/report.html" ]
    python3 - "$BATS_TEST_TMPDIR/out/report.json" "$BATS_TEST_DIRNAME/../../docs/formats/report.md" \
        "$BATS_TEST_TMPDIR/table" <<'PYTHON'
import json, re, sys
documented = set(re.findall(r"^\| `([^`]+)`", open(sys.argv[2]).read(), re.M))
def fields(value, path):
    if isinstance(value, dict):
        for key, entry in value.items():
            key = "*" if path in ("phases", "outputs[].linears") or path.endswith(".types") else key
            yield from fields(entry, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for entry in value:
            yield from fields(entry, path + "[]")
    elif value is not None or path in documented:  # else a section that is null as a whole
        yield path
found = set(fields(json.load(open(sys.argv[1])), ""))
assert found <= documented, found - documented
assert "outputs[].evaluation.perplexity" in found and "layers[][].loss" in found
rows = open(sys.argv[3]).read().split("\n\n")[0].strip("\n").split("\n")
assert len({len(row) for row in rows}) == 1, rows
PYTHON
}

@test "plan: text and JSON, and sizes that come true" {
    "$RANKPRESS" plan "$DIR/job.yaml" "output.dir=$DIR/other" >"$DIR/plan.txt"
    grep -q '^memory of a rank' "$DIR/plan.txt"
    grep -q '^    F32 [0-9]*, Q4_0 [0-9]*, ' "$DIR/plan.txt"
    "$RANKPRESS" plan "$DIR/job.yaml" "output.dir=$DIR/other" --json >"$DIR/plan.json"
    [ ! -e "$DIR/other" ]
    python3 - "$DIR" <<'PYTHON'
import json, os, re, sys
plan = json.load(open(sys.argv[1] + "/plan.json"))
sizes = {os.path.basename(o["path"]): o["bytes"] for o in plan["outputs"]}
assert sizes["model-Q4_0.gguf"] == os.path.getsize(sys.argv[1] + "/out/model-Q4_0.gguf")
assert plan["memory_per_rank_bytes"]["total"] > 0
output = plan["outputs"][0]
assert len(output["tensors"]) == sum(output["types"].values()) and output["types"]["Q4_0"] > 0
assert output["tensors"][0]["name"] == "output_norm.weight" and "types" not in plan["outputs"][1]
units = json.load(open(sys.argv[1] + "/out/checkpoint/manifest.json"))["body"]["units"]
forms = [p["bytes"] for name, unit in units.items() if re.fullmatch(r"layer/\d+/[^/]+/\d+", name) for p in unit["pieces"]]
hidden = json.load(open(sys.argv[1] + "/model/config.json"))["hidden_size"]
streams = 2 * 8 * 64 * hidden * 4  # of drift correction; kept twice, and in the making
assert forms and plan["checkpoint_bytes"] == 3 * streams + sum(forms), (plan["checkpoint_bytes"], streams, sum(forms))
PYTHON
}

@test "status: done, as text and JSON" {
    run "$RANKPRESS" status "$DIR/out"
    [ "$status" = 0 ]
    [[ ${lines[0]} == "$DIR/out: done" ]]
    "$RANKPRESS" status "$DIR/out" --json | python3 -m json.tool >/dev/null
    run "$RANKPRESS" status "$DIR/model"
    [ "$status" != 0 ]
}

@test "verify and inspect read what the run wrote" {
    run "$RANKPRESS" verify "$DIR/out"
    [ "$status" = 0 ]
    [ "${#lines[@]}" = 2 ]
    [[ ${lines[0]} == "$DIR/out/model-Q4_0.gguf: good"*Q4_0* ]]
    [[ ${lines[1]} == "$DIR/out/gptq: good"*"gptq int4"* ]]
    "$RANKPRESS" inspect "$DIR/out/model-Q4_0.gguf" | grep -q 'blk.0.attn_q.weight *Q4_0'
    "$RANKPRESS" inspect "$DIR/out/model-Q4_0.gguf" --json | python3 -m json.tool >/dev/null
    for file in "$DIR"/out/checkpoint/*; do
        "$RANKPRESS" inspect "$file" --json | python3 -m json.tool >/dev/null
    done
}

# refused_as MESSAGE ARG...: 65 and this one line
refused_as() {
    local message=$1
    shift
    run "$RANKPRESS" "$@"
    [ "$status" = 65 ]
    [ "$output" = "rankpress: $message" ]
}

@test "a job's folder in place of a model: its outputs are named" {
    outputs="$DIR/out: a job's folder, not a model; its outputs: $DIR/out/model-Q4_0.gguf, $DIR/out/gptq"
    refused_as "$outputs" eval "$DIR/out" --text "$DIR/job.yaml"
    refused_as "$outputs" eval "$DIR/model" --base "$DIR/out" --text "$DIR/job.yaml"
    refused_as "$outputs" inspect "$DIR/out"
    refused_as "$outputs" tokenize --model "$DIR/out" text
    refused_as "$outputs" plan "$DIR/job.yaml" "model=$DIR/out" "output.dir=$BATS_TEST_TMPDIR/out"
    refused_as "$DIR/out: a folder, not a regular file" run "$DIR/out"
    mkdir -p "$BATS_TEST_TMPDIR/begun/log"
    cp "$DIR/out/job.yaml" "$BATS_TEST_TMPDIR/begun"
    refused_as "$BATS_TEST_TMPDIR/begun: a job's folder, and it holds no finished output" \
        eval "$BATS_TEST_TMPDIR/begun" --text "$DIR/job.yaml"
    refused_as "$DIR: no tokenizer.json, and no vocab.json with merges.txt" tokenize --model "$DIR" text
}

@test "verify: a cut output, and one that is not there" {
    cp -r "$DIR/out" "$BATS_TEST_TMPDIR/out"
    truncate -s -100 "$BATS_TEST_TMPDIR/out/model-Q4_0.gguf"
    run "$RANKPRESS" verify "$BATS_TEST_TMPDIR/out"
    [ "$status" = 65 ]
    [[ $output == *"model-Q4_0.gguf: "* ]]
    rm "$BATS_TEST_TMPDIR/out/model-Q4_0.gguf"
    run "$RANKPRESS" verify "$BATS_TEST_TMPDIR/out"
    [ "$status" = 65 ]
    [[ $output == *"model-Q4_0.gguf: not there: the job has not finished it" ]]
}

@test "verify: a block of a GGUF file whose scale is infinite" {
    cp "$DIR/out/model-Q4_0.gguf" "$BATS_TEST_TMPDIR/inf.gguf"
    "$RANKPRESS" inspect "$BATS_TEST_TMPDIR/inf.gguf" --json >"$BATS_TEST_TMPDIR/header"
    at=$(python3 - "$BATS_TEST_TMPDIR/header" <<'PYTHON'
import json, sys
header = json.load(open(sys.argv[1]))
sizes = [-(-t["bytes"] // 32) * 32 for t in header["tensors"]]
index = [t["name"] for t in header["tensors"]].index("blk.0.attn_v.weight")
assert header["tensors"][index]["type"] == "Q4_0"
print(header["bytes"] - sum(sizes[index:]))
PYTHON
    )
    printf '\000\174' | dd of="$BATS_TEST_TMPDIR/inf.gguf" bs=1 seek="$at" conv=notrunc status=none
    run "$RANKPRESS" verify "$BATS_TEST_TMPDIR/inf.gguf"
    [ "$status" = 65 ]
    [[ $output == *"inf.gguf: tensor model.layers.0.self_attn.v_proj.weight: value 0 is "* ]]
}

@test "eval: the GGUF file with its own tokenizer gives the numbers of the base's" {
    text=$BATS_TEST_TMPDIR/text
    head -c 4000 "$BATS_TEST_DIRNAME/../../README.md" >"$text"
    own=$("$RANKPRESS" eval "$DIR/out/model-Q4_0.gguf" --text "$text" --context 64 --json --quiet |
        python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["tokens"], d["perplexity"])')
    other=$("$RANKPRESS" eval "$DIR/out/model-Q4_0.gguf" --text "$text" --context 64 --json --quiet \
        --tokenizer "$DIR/model" |
        python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["tokens"], d["perplexity"])')
    [ -n "$own" ]
    [ "$own" = "$other" ]
}

@test "a second run and a resume of a finished job change nothing" {
    before=$(cd "$DIR/out" && sha256sum model-Q4_0.gguf gptq/model.safetensors)
    "$RANKPRESS" run "$DIR/job.yaml" --quiet
    "$RANKPRESS" resume "$DIR/out" --quiet
    [ "$before" = "$(cd "$DIR/out" && sha256sum model-Q4_0.gguf gptq/model.safetensors)" ]
    run "$RANKPRESS" run "$DIR/job.yaml" recipe.0.gptq.bits=3 --quiet
    [ "$status" = 78 ]
    [[ $output == *bits* ]]
}

@test "a finished job does not read its texts again" {
    dir=$BATS_TEST_TMPDIR
    cp "$BATS_TEST_DIRNAME/../../README.md" "$dir/text"
    cp "$BATS_TEST_DIRNAME/../../docs/guide.md" "$dir/calibration"
    options=("output.dir=$dir/out" "calibration.text=$dir/calibration" "evaluate.text=$dir/text"
        evaluate.context=32 evaluate.max_windows=2)
    "$RANKPRESS" run "$DIR/job.yaml" --quiet "${options[@]}"
    rm "$dir/text" "$dir/calibration"
    [ "$("$RANKPRESS" run "$DIR/job.yaml" "${options[@]}")" = "$dir/out: done before; the report is $dir/out/report.json" ]
    "$RANKPRESS" resume "$dir/out" --quiet
    rm "$dir/out/report.json"
    run "$RANKPRESS" resume "$dir/out"
    [ "$status" = 65 ]
    [[ $output == *"$dir/text: cannot open"* ]]
}

# data FILE: the bytes of all tensors, without the header
data() {
    tail -c 200000 "$1"
}

@test "imatrix: the job's own, from the calibration and from the file that it writes" {
    dir=$BATS_TEST_TMPDIR
    options=('recipe=[{rtn: {imatrix: calibration}}]' output.imatrix=own.gguf 'output.formats=[{gguf: Q4_K_M}]')
    "$RANKPRESS" run "$DIR/job.yaml" --quiet "${options[@]}" "output.dir=$dir/own"
    "$RANKPRESS" imatrix show "$dir/own/own.gguf" | grep -q '28 tensors, 8 chunks of 64 tokens'
    "$RANKPRESS" run "$DIR/job.yaml" --quiet "${options[@]}" "output.dir=$dir/file" \
        "recipe.0.rtn.imatrix=$dir/own/own.gguf" output.imatrix=own.dat
    cmp <(data "$dir/own/model-Q4_K_M.gguf") <(data "$dir/file/model-Q4_K_M.gguf")
    "$RANKPRESS" run "$DIR/job.yaml" --quiet "${options[@]}" "output.dir=$dir/none" recipe.0.rtn.imatrix=none
    ! cmp -s <(data "$dir/own/model-Q4_K_M.gguf") <(data "$dir/none/model-Q4_K_M.gguf")
    "$RANKPRESS" inspect "$dir/file/model-Q4_K_M.gguf" | grep -q 'quantize.imatrix.file = own.gguf'
    "$RANKPRESS" imatrix show "$dir/file/own.dat" | grep -q '28 tensors, 8 chunks of 512 tokens'
}

@test "imatrix: a missing entry is counted, one of another length is refused" {
    dir=$BATS_TEST_TMPDIR
    matrix() {
        python3 - "$dir/a.dat" "$@" <<'PYTHON'
import struct, sys
name, n = sys.argv[2].encode(), int(sys.argv[3])
open(sys.argv[1], "wb").write(struct.pack("<ii", 1, len(name)) + name + struct.pack(f"<ii{n}f", 1, n, *[1.0] * n))
PYTHON
    }
    width=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["hidden_size"])' "$DIR/model/config.json")
    options=("recipe=[{rtn: {imatrix: $dir/a.dat}}]" 'output.formats=[{gguf: Q4_0}]' "output.dir=$dir/out")
    matrix blk.0.attn_q.weight "$((width + 1))"
    run --separate-stderr "$RANKPRESS" run "$DIR/job.yaml" --quiet "${options[@]}"
    [ "$status" = 65 ]
    [[ $stderr == *"a.dat: entry blk.0.attn_q.weight: $((width + 1)) values, but the model's tensor has $width columns" ]]
    [ ! -e "$dir/out" ]
    matrix blk.0.attn_q.weight "$width"
    "$RANKPRESS" run "$DIR/job.yaml" --quiet "${options[@]}"
    grep -q '"event":"no_importance","file":".*","tensors":27,"first":"blk.0.attn_k.weight"' "$dir"/out/log/*
    python3 - "$dir/out/report.json" <<'PYTHON'
import json, sys
imatrix = json.load(open(sys.argv[1]))["imatrix"]
assert (imatrix["entries"], imatrix["used"], imatrix["missing"]) == (1, 1, 27), imatrix
PYTHON
    run --separate-stderr "$RANKPRESS" run "$DIR/job.yaml" --quiet "${options[@]}" "output.dir=$dir/other" \
        'calibration={}' output.imatrix=x.gguf
    [ "$status" = 78 ]
    [[ $stderr == *"output.imatrix needs calibration.text" ]]
}
