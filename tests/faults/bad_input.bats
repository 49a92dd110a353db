# Every kind of bad input: one clear line on stderr, the right exit code, nothing under a final name.

setup_file() {
    load common
    export MODEL=$BATS_FILE_TMPDIR/model
    make_model "$MODEL"
}

setup() {
    load common
    dir=$BATS_TEST_TMPDIR
    job=$dir/job.yaml
    out=$dir/out
    write_job "$job" "$MODEL" "$out"
}

# refused CODE WORDS ARG...: the program leaves with CODE and one line that matches WORDS
refused() {
    local code=$1 words=$2 rc=0
    shift 2
    alone "$@" >"$dir/stdout" 2>"$dir/stderr" || rc=$?
    echo "exit code $rc, wanted $code; stderr:"
    cat "$dir/stderr"
    [ "$rc" = "$code" ]
    [ "$(wc -l <"$dir/stderr")" = 1 ]
    grep -Eq -- "$words" "$dir/stderr"
    nothing_final "$out"
}

# refused_model KIND WORDS [CODE]
refused_model() {
    rm -rf "$dir/bad" "$out"
    python3 "$root/tests/faults/mutate.py" "$MODEL" "$dir/bad" "$1"
    refused "${3:-65}" "$2" run "$job" "model=$dir/bad"
}

# refused_job WORDS LINE...: a job file with more lines
refused_job() {
    local words=$1
    shift
    printf '%s\n' "$@" >>"$job"
    refused 78 "job.yaml:[0-9]+:[0-9]+: .*$words" run "$job"
}

@test "job file: unknown key, with a suggestion" {
    sed -i 's/max_seq_length/max_sequence_length/' "$job"
    refused_job 'did you mean .*max_seq_length'
}

@test "job file: unknown key at the top" {
    refused_job 'evaluat.*did you mean .*evaluate' 'evaluat: {text: x}'
}

@test "job file: key twice" {
    refused_job 'model' "model: $MODEL"
}

@test "job file: alias" {
    sed -i 's/^gates: /gates: \&a /' "$job"
    refused_job 'anchor|alias' 'evaluate: *a'
}

@test "job file: wrong type" {
    sed -i 's/num_calibration_samples: 12/num_calibration_samples: many/' "$job"
    refused_job 'num_calibration_samples.*many|many'
}

@test "job file: out of bounds" {
    sed -i 's/max_seq_length: 96/max_seq_length: -5/' "$job"
    refused_job '-5'
}

@test "job file: not YAML" {
    printf 'model: [unclosed\n' >"$job"
    refused 78 'job.yaml:[0-9]+' run "$job"
}

@test "job file: no such file" {
    refused '(64|65|78)' 'absent.yaml' run "$dir/absent.yaml" || refused 65 'absent.yaml' run "$dir/absent.yaml"
}

@test "command line: unknown command, unknown option, override of an unknown key" {
    refused 64 'runn' runn "$job"
    refused 64 'no-such-option' run "$job" --no-such-option
    refused 78 'cluster.thread' run "$job" cluster.thread=2
}

@test "a form that the container does not hold is refused before any work" {
    refused 78 'compressed.tensors' run "$job" recipe.0.gptq.scheme=W3A16
}

@test "weights: every way to be broken" {
    refused_model truncated 'model.safetensors'
    refused_model trailing_bytes 'model.safetensors'
    refused_model overlapping 'model.safetensors.*model.norm.weight|overlap'
    refused_model duplicate 'model.norm.weight'
    refused_model oversized_header 'model.safetensors'
    refused_model empty_weights 'model.safetensors'
    refused_model header_not_json 'model.safetensors'
    refused_model bad_dtype 'BF17'
    refused_model missing_tensor 'model\.'
    refused_model no_weights 'safetensors'
}

@test "weights: a shape that config.json does not give" {
    refused_model wrong_shape 'mlp\.(gate|up|down)_proj.weight'
}

@test "weights: not a number" {
    refused_model nan 'model.layers.1.self_attn.q_proj'
}

@test "model folder: config and tokenizer" {
    refused_model no_config 'config.json'
    refused_model bad_config 'config.json'
    refused_model unknown_family 'mamba'
    refused_model no_tokenizer 'tokenizer'
    refused_model bad_tokenizer 'NoSuchNormalizer'
}

# refused_gguf KIND WORDS [CODE]: by every command that reads a model
refused_gguf() {
    python3 "$root/tests/faults/mutate_gguf.py" "$dir/made/whole.gguf" "$dir/bad.gguf" "$1"
    refused "${3:-65}" "bad.gguf: .*$2" verify "$dir/bad.gguf"
    refused "${3:-65}" "bad.gguf: .*$2" eval "$dir/bad.gguf" --text "$booklm/heldout.txt"
    refused "${3:-65}" "bad.gguf: .*$2" plan "$job" "model=$dir/bad.gguf"
    refused "${3:-65}" "bad.gguf: .*$2" run "$job" "model=$dir/bad.gguf"
}

make_gguf() {
    alone run "$job" "output.dir=$dir/made" recipe=[] \
        "output.formats=[{gguf: {type: F16, name: whole.gguf}}, {gguf: {type: F16, name: split.gguf, max_shard_size: 500kB}}]" \
        >/dev/null
}

@test "gguf: every way to be broken" {
    make_gguf
    refused_gguf magic 'not a GGUF file'
    refused 65 'bad.gguf: not a GGUF file' inspect "$dir/bad.gguf"
    refused_gguf version_1 'version 1'
    refused_gguf byte_swapped 'big-endian'
    refused_gguf n_tensors 'tensors do not fit'
    refused_gguf n_kv 'keys do not fit'
    refused_gguf key_bytes 'more than 2\^30'
    refused_gguf twin_key 'key general.type: occurs twice'
    refused_gguf architecture 'mamba is not supported'
    refused_gguf missing_key 'key llama.block_count: missing'
    refused_gguf strange_tensor 'tensor output_n0rm.weight: no part'
    refused_gguf n_dims 'output_norm.weight: 5 dimensions'
    refused_gguf negative 'output_norm.weight: dimension 0'
    refused_gguf shape 'offset'
    refused_gguf type 'output_norm.weight: unknown type 4'
    refused_gguf offset 'output_norm.weight: offset'
    refused_gguf cut_header 'do not fit into 100 bytes'
    refused_gguf cut_data 'cut file'
}

@test "gguf: values and tokenizers that are not there" {
    make_gguf
    python3 "$root/tests/faults/mutate_gguf.py" "$dir/made/whole.gguf" "$dir/bad.gguf" not_finite
    refused 65 'bad.gguf: tensor .* is -?nan' verify "$dir/bad.gguf"
    python3 "$root/tests/faults/mutate_gguf.py" "$dir/made/whole.gguf" "$dir/bad.gguf" no_tokenizer
    refused 65 'tokenizer.ggml.model: missing' eval "$dir/bad.gguf" --text "$booklm/heldout.txt"
    refused 65 'tokenizer.ggml.model: missing' tokenize --model "$dir/bad.gguf" text
    refused 65 'tokenizer.ggml.model: missing' run "$job" "model=$dir/bad.gguf"
}

@test "gguf: parts of a split model that are missing or another's" {
    make_gguf
    parts=("$dir"/made/split-*.gguf)
    [ "${#parts[@]}" -gt 2 ]
    mv "${parts[1]}" "$dir/kept"
    refused 65 "${parts[1]##*/}: part 2 of ${#parts[@]} .* is missing" verify "${parts[0]}"
    cp "${parts[2]}" "${parts[1]}"
    refused 65 "${parts[1]##*/}: key split.no: want 1, found 2" inspect "${parts[2]}"
    cp "$dir/made/whole.gguf" "${parts[1]}"
    refused 65 "${parts[1]##*/}: key split.no: missing" run "$job" "model=${parts[0]}"
    cp "${parts[2]}" "$dir/alone.gguf"
    refused 65 'alone.gguf: one of .* parts of a split model' eval "$dir/alone.gguf" --text "$booklm/heldout.txt"
}

@test "gguf: what is quantised already is quantised again only on demand" {
    make_gguf
    alone run "$job" "output.dir=$dir/eight" recipe=[] "output.formats=[{gguf: Q8_0}]" >/dev/null
    refused 78 'quantised already \(Q8_0\): set allow_requantize: true' run "$job" \
        "model=$dir/eight/model-Q8_0.gguf" recipe=[] "output.formats=[{gguf: Q4_1}]"
    alone run "$job" "model=$dir/eight/model-Q8_0.gguf" recipe=[] "output.dir=$dir/eight/again" \
        "output.formats=[{gguf: {type: Q4_1, token_embedding_type: Q8_0}}]" allow_requantize=true >/dev/null
}

@test "calibration: text too short says how many tokens there are and are needed" {
    echo "Too short." >"$dir/short.txt"
    refused 65 'short.txt.*[0-9]+ tokens.*1152|1152.*tokens' run "$job" "calibration.text=$dir/short.txt"
    [ ! -e "$out" ]
}

@test "calibration: no such text" {
    refused 65 'absent.txt' run "$job" "calibration.text=$dir/absent.txt"
    [ ! -e "$out" ]
}

@test "evaluation: its text is looked at before any work" {
    echo "Too short." >"$dir/short.txt"
    refused 65 'absent.txt' run "$job" "evaluate.text=$dir/absent.txt"
    refused 65 'short.txt.*tokens' run "$job" "evaluate.text=$dir/short.txt"
    refused 78 'evaluate.context' run "$job" "evaluate.text=$booklm/heldout.txt" evaluate.context=100000
    [ ! -e "$out" ]
}

@test "calibration: a token outside the model's vocabulary" {
    make_model "$dir/narrow" --set vocab_size=1000
    refused 65 '(token|id|vocab)' run "$job" "model=$dir/narrow"
}

@test "output folder with other people's files" {
    mkdir -p "$out"
    echo mine >"$out/precious.txt"
    refused '7[38]' "$out" run "$job" || refused 78 "$out" run "$job"
    [ "$(cat "$out/precious.txt")" = mine ]
}

@test "output folder that cannot be made" {
    echo "a file" >"$dir/file"
    refused 74 "$dir/file" run "$job" "output.dir=$dir/file/out"
}

@test "memory: a limit that even one layer does not fit" {
    refused 71 'memory|MiB|bytes' run "$job" cluster.memory_per_rank=2MB
}

@test "disk: less room than the planned files" {
    mkdir "$dir/small"
    mount -t tmpfs -o size=256k tmpfs "$dir/small" 2>/dev/null || skip "cannot mount a small tmpfs"
    out=$dir/small/out
    rc=0
    refused 74 'space|bytes|MiB' run "$job" "output.dir=$out" || rc=$?
    umount "$dir/small"
    [ "$rc" = 0 ]
}

@test "output folder locked by a live job" {
    on_ranks 2 run "$job" calibration.num_calibration_samples=400 >"$dir/first.log" 2>&1 3>&- &
    first=$!
    for _ in $(seq 100); do
        [ ! -e "$out/.lock" ] || break
        sleep 0.05
    done
    [ -e "$out/.lock" ]
    rc=0
    alone run "$job" >"$dir/stdout" 2>"$dir/stderr" || rc=$?
    kill -TERM "$first" 2>/dev/null || true
    wait "$first" || true
    cat "$dir/stderr"
    [ "$rc" = 73 ]
    [ "$(wc -l <"$dir/stderr")" = 1 ]
}

@test "one rank at fault: all leave with one message that names the rank" {
    python3 "$root/tests/faults/mutate.py" "$MODEL" "$dir/bad" nan
    rc=0
    on_ranks 3 run "$job" "model=$dir/bad" >"$dir/stdout" 2>"$dir/stderr" || rc=$?
    cat "$dir/stderr"
    [ "$rc" = 65 ]
    [ "$(grep -c '^rankpress: ' "$dir/stderr")" = 1 ]
    grep -q 'model.layers.1.self_attn.q_proj' "$dir/stderr"
    nothing_final "$out"
}

@test "a resume with another job is refused and names the key" {
    alone run "$job" >/dev/null
    rc=0
    alone run "$job" recipe.0.gptq.group_size=64 >"$dir/stdout" 2>"$dir/stderr" || rc=$?
    cat "$dir/stderr"
    [ "$rc" = 78 ]
    grep -q 'group_size' "$dir/stderr"
}
