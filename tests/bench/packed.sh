# Sourced in a folder that scripts/bench-gpu packed and unpacked, `work`: its programs run with the
# libraries that came along, and with the machine's CUDA wherever that lies. Sets `libraries`, the
# loader's path for them, and makes $work/rankpress, which has it.
# shellcheck shell=bash disable=SC2154
PATH=$PATH:/usr/sbin:/sbin # ldconfig
known=$(ldconfig -p 2>/dev/null || true)

# Folders of CUDA's libraries that the loader would not find; Python's packages have them, too.
cuda_folders() {
    local name path packages
    mapfile -t packages <<<"$(python3 -c 'import sys; print(*filter(lambda p: p.endswith("-packages"), sys.path), sep="\n")')"
    for name in libcublas.so.13 libcublasLt.so.13 libcusolver.so.12 libnccl.so.2 libnvJitLink.so.13 libcusparse.so.12; do
        [[ $known != *"$name "* ]] || continue
        path=$(find -L /usr/local "${packages[@]}" /usr/lib /opt -maxdepth 9 -name "$name" -print -quit 2>/dev/null || true)
        [ -z "$path" ] || dirname "$path"
    done | sort -u | paste -sd:
}

# The C++ library is the machine's where that is at least as new: other libraries of the machine may need it.
choose_cxx_library() {
    local own newest machine
    own=$work/lib/libstdc++.so.6
    [ -f "$own" ] || return 0
    newest=$(grep -aoE 'GLIBCXX_3\.4\.[0-9]+' "$own" | sort -uV | tail -n 1)
    machine=$(awk '$1 == "libstdc++.so.6" && /x86-64|AArch64/ {path = $NF} END {print path}' <<<"$known")
    if [ -n "$machine" ] && grep -aq "$newest" "$machine"; then
        rm -f "$own" "$work/lib/libgcc_s.so.1"
    fi
}

choose_cxx_library
libraries=$work/lib:$(cuda_folders):${LD_LIBRARY_PATH:-}
printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$libraries" "$work/bin/rankpress" >"$work/rankpress"
chmod +x "$work/rankpress"
