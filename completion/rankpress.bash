# bash completion of rankpress; made by `rankpress --completion bash`
_rankpress()
{
    local current=${COMP_WORDS[COMP_CWORD]} words
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        words='inspect tokenize bench-gemm --help --version --man --completion'
    else
        case ${COMP_WORDS[1]} in
            inspect) words='--json --help' ;;
            tokenize) words='--model --text --decode --special --json --help' ;;
            bench-gemm) words='--m --n --k --threads --products --json --help' ;;
            --completion) words=bash ;;
            *) words='' ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    if [ "$COMP_CWORD" -gt 1 ] && [ "${current#-}" = "$current" ]; then
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
    fi
    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
}
complete -o filenames -F _rankpress rankpress
