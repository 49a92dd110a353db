# Sourced by the scripts here.
script=$(realpath "$0")

# The lines of the script's head from "usage:" on.
usage() { sed -n '/^# usage:/,/^[^#]/s/^# \{0,1\}//p' "$script"; }

# refuse ARG: one line, exit code 64
refuse() {
    echo "${script##*/}: wrong argument '$1'; see $0 --help" >&2
    exit 64
}

# take_options N ARG...: prints the usage for --help; refuses another option, and more than N other arguments
take_options() {
    local most=$1 arg
    shift
    for arg in "$@"; do
        case "$arg" in
            -h | --help) usage && exit 0 ;;
            -*) refuse "$arg" ;;
        esac
    done
    [ $# -le "$most" ] || refuse "${!#}"
}
