# The command line: help, version, generated documents, commands on data that ships with the project.
# RP_BUILD names the build folder.

bats_require_minimum_version 1.5.0

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    rankpress=${RP_BUILD:-$root/build/release}/jobs/rankpress
    booklm=$root/examples/models/booklm
}

# refused CODE MESSAGE ARG...: exit code and the one line on stderr
refused() {
    local code=$1 message=$2 rc=0
    shift 2
    "$rankpress" "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" </dev/null || rc=$?
    echo "exit code $rc, wanted $code; stderr: $(cat "$BATS_TEST_TMPDIR/err")"
    [ "$rc" = "$code" ]
    [ "$(wc -l <"$BATS_TEST_TMPDIR/err")" = 1 ]
    [ ! -s "$BATS_TEST_TMPDIR/out" ]
    grep -qF -- "rankpress: $message" "$BATS_TEST_TMPDIR/err"
}

commands() {
    "$rankpress" --help | sed -n '/^commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'
}

@test "--version prints name and number" {
    run "$rankpress" --version
    [ "$status" = 0 ]
    [[ $output =~ ^rankpress\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "--help lists every command, and each has its own help of at most 80 columns" {
    [ "$(commands | wc -l)" -ge 3 ]
    for command in $(commands); do
        run "$rankpress" "$command" --help
        [ "$status" = 0 ]
        [[ ${lines[0]} == "usage: rankpress $command"* ]]
        [ -z "$(awk 'length > 80 && !/^usage/' <<<"$output")" ]
    done
    [ "$("$rankpress" eval --help | head -n 1)" = 'usage: rankpress eval MODEL --text FILE [OPTION]...' ]
    [ "$("$rankpress" -h)" = "$("$rankpress" --help)" ]
}

@test "the man page in the tree is the program's, and formats without warnings" {
    diff <("$rankpress" --man) "$root/man/rankpress.1"
    if command -v groff >/dev/null; then
        [ -z "$(groff -man -Tascii -ww -z "$root/man/rankpress.1" 2>&1)" ]
    fi
}

@test "the completion in the tree is the program's, and completes" {
    diff <("$rankpress" --completion bash) "$root/completion/rankpress.bash"
    # shellcheck disable=SC1091
    source "$root/completion/rankpress.bash"
    COMP_WORDS=(rankpress tok) COMP_CWORD=1
    _rankpress
    [ "${COMPREPLY[*]}" = tokenize ]
    COMP_WORDS=(rankpress tokenize --dec) COMP_CWORD=2
    _rankpress
    [ "${COMPREPLY[*]}" = --decode ]
}

@test "wrong command lines: one line, exit code 64" {
    refused 64 'want a command; see rankpress --help'
    refused 64 'no command "inspct" (did you mean "inspect"?)' inspct
    refused 64 'unknown option --vresion; see rankpress --help' --vresion
    refused 64 'option --completion: want bash' --completion zsh
    refused 64 'rankpress inspect: want PATH' inspect
    refused 64 'rankpress inspect: too many operands: "b"' inspect a b
    refused 64 'unknown option --jsn (did you mean --json?)' inspect --jsn a
    refused 64 'rankpress tokenize: option --model is missing' tokenize x
    refused 64 'option --threads: want an integer from 1 to 4096 or auto, got "many"' \
        bench-gemm --threads many
}

@test "tokenize: operands, file and standard input give the same ids, and decode" {
    ids=$("$rankpress" tokenize --model "$booklm" Once upon a time)
    [ "$ids" = "$(printf 'Once upon a time' | "$rankpress" tokenize --model "$booklm")" ]
    printf 'Once upon a time' >"$BATS_TEST_TMPDIR/text"
    [ "$ids" = "$("$rankpress" tokenize --model "$booklm" --text "$BATS_TEST_TMPDIR/text")" ]
    [ "$("$rankpress" tokenize --model "$booklm" --decode "$ids")" = "Once upon a time" ]
    "$rankpress" tokenize --model "$booklm" --json Once upon a time |
        python3 -c 'import json, sys
d = json.load(sys.stdin)
assert d["n_tokens"] == len(d["ids"]) == len(d["tokens"]) > 0
assert " ".join(map(str, d["ids"])) == sys.argv[1]' "$ids"
}

@test "tokenize: what cannot be read is named" {
    refused 65 "$BATS_TEST_TMPDIR/absent: cannot open" tokenize --model "$booklm" \
        --text "$BATS_TEST_TMPDIR/absent"
    refused 65 'want ids from 0 to' tokenize --model "$booklm" --decode 1 99999999
    refused 65 'want ids from 0 to' tokenize --model "$booklm" --decode one
    printf 'a\377b' >"$BATS_TEST_TMPDIR/bytes"
    refused 65 "$BATS_TEST_TMPDIR/bytes: " tokenize --model "$booklm" \
        --text "$BATS_TEST_TMPDIR/bytes"
}

@test "inspect: folder and file say the same; JSON holds every tensor" {
    "$rankpress" inspect "$booklm" --json >"$BATS_TEST_TMPDIR/folder.json"
    "$rankpress" inspect "$booklm/model.safetensors" --json >"$BATS_TEST_TMPDIR/file.json"
    python3 - "$BATS_TEST_TMPDIR" "$booklm/model.safetensors" <<'PYTHON'
import json, os, struct, sys
folder, file = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in ("folder", "file"))
assert folder["tensors"] == file["tensors"]
with open(sys.argv[2], "rb") as f:
    header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
header.pop("__metadata__", None)
assert {t["name"]: (t["type"], t["shape"]) for t in file["tensors"]} == \
    {n: (t["dtype"], t["shape"]) for n, t in header.items()}
assert file["bytes"] == os.path.getsize(sys.argv[2])
PYTHON
    "$rankpress" inspect "$booklm" | grep -q 'model.norm.weight .*512 B  \[256\]'
}

# matrix FILE CHUNKS VALUE...: an importance matrix of one tensor, as llama-imatrix's older files
matrix() {
    python3 - "$@" <<'END'
import struct, sys
name = b"blk.0.attn_q.weight"
chunks, values = int(sys.argv[2]), [float(v) for v in sys.argv[3:]]
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", chunks, len(values)))
    f.write(struct.pack(f"<{len(values)}f", *(v * chunks for v in values)))
    f.write(struct.pack("<ii", chunks, 4) + b"text")
END
}

@test "a model that is not there" {
    refused 65 '/nowhere: no such file or folder' tokenize --model /nowhere text
    refused 65 '/nowhere: no such file or folder' eval /nowhere --text "$booklm/heldout.txt"
    refused 65 '/nowhere: no such file or folder' verify /nowhere
}

@test "imatrix: merge adds sums and counts, show says what is in the file" {
    cd "$BATS_TEST_TMPDIR"
    matrix a.dat 1 1 2 3 4
    matrix b.dat 3 5 2 3 8
    "$rankpress" imatrix merge ab.gguf a.dat b.dat | grep -qF '1 tensors, 4 chunks of 512 tokens'
    "$rankpress" imatrix merge back.dat ab.gguf
    for file in ab.gguf back.dat; do
        "$rankpress" imatrix show "$file" --json >show.json
        python3 - <<'END'
import json
tensor = json.load(open("show.json"))["tensors"][0]
assert tensor["tensor"] == "blk.0.attn_q.weight" and tensor["n"] == 4, tensor
assert (tensor["min"], tensor["max"], tensor["sum"]) == (2, 7, 16), tensor
END
    done
    "$rankpress" imatrix show ab.gguf | grep -qE '^ +0  attn_q +16\.0000 +2\.0000 +7\.0000 +4\.0000'
}

@test "imatrix: what is wrong is refused, and no file is replaced" {
    cd "$BATS_TEST_TMPDIR"
    matrix a.dat 1 1 2
    matrix b.dat 1 1 2 3
    refused 64 'imatrix: want show or merge, got "print"' imatrix print a.dat
    refused 64 'imatrix show: want one FILE, got 2 operands' imatrix show a.dat b.dat
    refused 64 'imatrix merge: want OUT and at least one IN' imatrix merge a.dat
    refused 64 'imatrix merge: OUT comes first, and a.dat exists' imatrix merge a.dat b.dat
    refused 65 'b.dat: entry blk.0.attn_q.weight: 3 values' imatrix merge new.gguf a.dat b.dat
    refused 65 '/nonexistent: cannot open' imatrix show /nonexistent
    refused 65 "$root/README.md: not an importance matrix" imatrix show "$root/README.md"
    [ ! -e new.gguf ]
}

@test "inspect: what is no such file is refused" {
    refused 65 '/nonexistent: cannot open' inspect /nonexistent
    printf 'GGUF' >"$BATS_TEST_TMPDIR/cut.gguf"
    refused 65 "$BATS_TEST_TMPDIR/cut.gguf: " inspect "$BATS_TEST_TMPDIR/cut.gguf"
    refused 65 "$root/README.md: no safetensors, GGUF or checkpoint file" inspect "$root/README.md"
    cp "$root/README.md" "$BATS_TEST_TMPDIR/text.safetensors"
    refused 65 "$BATS_TEST_TMPDIR/text.safetensors: header of " inspect "$BATS_TEST_TMPDIR/text.safetensors"
    mkdir "$BATS_TEST_TMPDIR/empty"
    refused 65 "$BATS_TEST_TMPDIR/empty" inspect "$BATS_TEST_TMPDIR/empty"
}

@test "bench-gemm: a rate for each kind of product" {
    "$rankpress" bench-gemm --m 64 --n 64 --k 64 --threads 1 --json |
        python3 -c 'import json, sys
rates = json.load(sys.stdin)["rates"]
kinds = {r["kind"] for r in rates}
assert {"sgemm", "linear", "gram", "cholesky", "copy"} <= kinds, kinds
assert all(r["rate"] > 0 for r in rates)'
}

@test "two ranks: one line of output, one line of error" {
    run "$root/scripts/mpirun" -n 2 "$rankpress" tokenize --model "$booklm" Once
    [ "$status" = 0 ]
    [ "${#lines[@]}" = 1 ]
    run --separate-stderr "$root/scripts/mpirun" -n 2 "$rankpress" inspect /nonexistent
    [ "$status" = 65 ]
    [ "$(grep -c '^rankpress: ' <<<"$stderr")" = 1 ]
    run --separate-stderr "$root/scripts/mpirun" -n 2 "$rankpress" nonsense
    [ "$status" = 64 ]
    [ "$(grep -c '^rankpress: no command' <<<"$stderr")" = 1 ]
}

@test "verify: a good model, and one with a value that is not finite" {
    run "$rankpress" verify "$booklm"
    [ "$status" = 0 ]
    [[ $output == "$booklm: good, 11.5 MB, 56 tensors: 56 BF16" ]]
    cp -r "$booklm" "$BATS_TEST_TMPDIR/nan"
    printf '\300\177' | dd of="$BATS_TEST_TMPDIR/nan/model.safetensors" bs=1 seek=2000000 \
        conv=notrunc status=none
    refused 65 "$BATS_TEST_TMPDIR/nan/model.safetensors: " verify "$BATS_TEST_TMPDIR/nan"
    refused 65 '/nonexistent' verify /nonexistent
}

@test "eval: the same numbers on one rank and on two; a model equals itself" {
    eval_args=("$booklm" --text "$booklm/heldout.txt" --base "$booklm" --context 64
        --max-windows 5 --quiet --json)
    "$rankpress" eval "${eval_args[@]}" >"$BATS_TEST_TMPDIR/1"
    "$root/scripts/mpirun" -n 2 "$rankpress" eval "${eval_args[@]}" >"$BATS_TEST_TMPDIR/2"
    python3 - "$BATS_TEST_TMPDIR" <<'PYTHON'
import json, sys
one, two = (json.load(open(f"{sys.argv[1]}/{n}")) for n in "12")
assert one["windows"] == 5 and one["scored_tokens"] == 5 * 63
assert one["kl_divergence"] == 0 and one["top1_agreement"] == 1
assert 1 < one["perplexity"] < 1000
for key in one.keys() - {"seconds", "ranks"}:
    assert one[key] == two[key], key
PYTHON
    printf 'short' >"$BATS_TEST_TMPDIR/short"
    refused 65 "$BATS_TEST_TMPDIR/short: text too short: " eval "$booklm" --text "$BATS_TEST_TMPDIR/short" --context 64
    head -c 8000 "$booklm/heldout.txt" >"$BATS_TEST_TMPDIR/text"
    "$rankpress" eval "$booklm" --text "$BATS_TEST_TMPDIR/text" --context 600 --max-windows 1 \
        2>"$BATS_TEST_TMPDIR/err" >"$BATS_TEST_TMPDIR/out"
    grep -qx "rankpress: warning: --context is 600, the model's limit is 512" "$BATS_TEST_TMPDIR/err"
    grep -q ' tokens, 1 window of 600)$' "$BATS_TEST_TMPDIR/out"
    refused 64 'rankpress eval: option --text is missing' eval "$booklm"
    CUDA_VISIBLE_DEVICES='' refused 71 'backend is cuda, but' \
        eval "$booklm" --text "$booklm/heldout.txt" --backend cuda
}

@test "scripts: --help prints the usage, and a wrong argument is refused before anything is done" {
    cd "$root"
    for script in scripts/{bench,bench-gpu,bench-peers,build,demo,setup,test,test-gpu,venv}; do
        run "$script" --help
        echo "$script: $output"
        [ "$status" = 0 ]
        [[ ${lines[0]} == "usage: "* ]]
    done
    for script in scripts/{bench-peers,build,demo,setup,test,test-gpu,venv}; do
        run "$script" --wrong
        [ "$status" = 64 ]
        [ "$output" = "${script##*/}: wrong argument '--wrong'; see $script --help" ]
    done
}
