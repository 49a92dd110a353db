# scripts/bench-gpu, rehearsed on the stand-in of tests/cuda_host: every row of its tables, and a packed folder that runs by
# itself.

bats_require_minimum_version 1.5.0

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    program=${RP_BUILD:-$root/build/release}/tests/cuda_host/rankpress_cuda_host
    [ -x "$program" ] || skip "no $program"
    work=$BATS_TEST_TMPDIR/work
}

# has ROW COLUMNS: a table has the row, with so many columns
has() {
    local row
    echo "wanted: | $1 | of $2 columns"
    row=$(grep -F "| $1 |" <<<"$output")
    [ "$(tr -cd '|' <<<"$row" | wc -c)" = $(($2 + 1)) ]
}

@test "every row of the tables, of jobs that the GPU's back end did" {
    run --separate-stderr "$root/scripts/bench-gpu" --program "$program" --size tiny --work "$work" --keep "$work/reports"
    echo "$output" "${stderr-}"
    [ "$status" = 0 ]
    [[ ${lines[0]} == *"no GPU (a rehearsal)"* ]]
    for row in "tiny W4 g128 GPTQ, drift full" "tiny GGUF Q4_K_M RTN" "tiniest W4 g128 GPTQ, drift full"; do
        has "$row" 16
    done
    has "run | forward TFLOP/s | of peak | gram TFLOP/s | of peak | factor TFLOP/s | of peak | solve TFLOP/s | of peak" 9
    for row in "tiny W4 g128 GPTQ, drift none" "tiny GGUF Q4_K_M GPTQ, drift none" "tiniest W4 g128 GPTQ, drift none"; do
        [ "$(grep -cF "| $row |" <<<"$output")" = 2 ] # seconds, and fractions of the peaks
    done
    for row in "cpu, f32" "cpu, bf16" "cuda, bf16"; do
        has "$row" 6
    done
    has "dd reads GB/s | dd writes GB/s | seconds to read the model | of RTN's" 4
    for row in gptq gptq-drift gguf small small-drift; do
        grep -q '"arithmetic": "cuda ' "$work/reports/$row.json"
        grep -q '"peak_bytes": [1-9]' "$work/reports/$row.json"
    done
    grep -q '"arithmetic": "cpu' "$work/reports/rtn.json"
}

@test "a packed folder runs by itself" {
    "$root/scripts/bench-gpu" pack --program "$program" "$work/packed"
    [ "$(stat -c %s "$work/packed/files.tar.xz")" -lt $((64 << 20)) ]
    cd "$work"
    TMPDIR=$work run --separate-stderr env -u LD_LIBRARY_PATH packed/bench-gpu --size tiny --work "$work/bench" gptq
    echo "$output" "${stderr-}"
    [ "$status" = 0 ]
    [ "$(grep -cF '| tiny W4 g128 GPTQ, drift none |' <<<"$output")" = 2 ]
    # The libraries are its own: MPI's and HDF5's are found below the folder it unpacked.
    libraries=$(LD_LIBRARY_PATH=$work/rankpress-gpu/lib ldd "$work/rankpress-gpu/bin/rankpress")
    for name in libmpi libhdf5_serial libopenblas libjansson; do
        grep -q "$name.* => $work/rankpress-gpu/lib/" <<<"$libraries"
    done
    # So are the tests and their data: the source tree's are not looked at.
    run cat "$work/rankpress-gpu/tests"
    [ "${#lines[@]}" -ge 8 ]
    [[ $output == *"lm_host bin/test_lm_host tree/tests/data/"* && $output != *"$root"* ]]
    TMPDIR=$work RP_TEST_ONLY='^(product|window)_' run packed/test-gpu none
    echo "$output"
    [ "$status" = 0 ]
    [ "${lines[-1]}" = "test-gpu: 2 passed, 0 failed, 0 skipped" ]
}

@test "a failure on a GPU, and a tool that is missing, show" {
    mkdir -p "$work/files/bin" "$work/files/lib" "$work/packed"
    printf 'good true\nbad sh -c "echo a kernel is wrong; exit 3"\nabsent sh -c "exit 77"\n' >"$work/files/tests"
    cp "$root/tests/bench/packed.sh" "$work/files/"
    tar -C "$work/files" -cJf "$work/packed/files.tar.xz" .
    cp "$root"/scripts/{test-gpu,usage.bash} "$work/packed/"
    export TMPDIR=$work
    run "$work/packed/test-gpu" none
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"none good: passed, "*"a kernel is wrong"*"none bad: FAILED with 3, "*"none absent: skipped, "* ]]
    [ "${lines[-1]}" = "test-gpu: 1 passed, 1 failed, 1 skipped" ]
    RP_TEST_ONLY=absent run "$work/packed/test-gpu" none
    [ "$status" = 77 ]
    # A compute-sanitizer gets the tool and the test.
    printf '#!/bin/sh\n[ "$2" = racecheck ] || exit 1\necho "$*" >"%s/asked"\n' "$work" >"$work/compute-sanitizer"
    chmod +x "$work/compute-sanitizer"
    PATH=$work:$PATH RP_TEST_ONLY=good run "$work/packed/test-gpu" racecheck memcheck
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"racecheck good: passed, "*"memcheck good: FAILED with 1, "* ]]
    [[ "$(cat "$work/asked")" == "--tool racecheck "*" true" ]]
}
