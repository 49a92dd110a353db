# bash completion of rankpress; made by `rankpress --completion bash`
_rankpress()
{
    local current=${COMP_WORDS[COMP_CWORD]} words
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        words='plan run resume status submit eval verify inspect imatrix tokenize bench-gemm --help --version --man --completion'
    else
        case ${COMP_WORDS[1]} in
            plan) words='--ranks --json --help model= allow_requantize= backend= output.dir= output.imatrix= calibration.text= calibration.num_calibration_samples= calibration.max_seq_length= calibration.seed= calibration.block_tokens= calibration.add_bos= evaluate.text= evaluate.context= evaluate.metrics= evaluate.max_windows= evaluate.add_bos= evaluate.variant= cluster.mode= cluster.threads= cluster.memory_per_rank= cluster.products= cluster.walltime= cluster.stop_seconds= cluster.heartbeat= cluster.peer_deadline= cluster.collective_deadline= cluster.checkpoint.every_layers= cluster.checkpoint.keep= cluster.checkpoint.partial= cluster.checkpoint.remove_when_done= cluster.log= cluster.slurm.job_name= cluster.slurm.nodes= cluster.slurm.tasks_per_node= cluster.slurm.cpus_per_task= cluster.slurm.gpus_per_node= cluster.slurm.time= cluster.slurm.partition= cluster.slurm.account= cluster.slurm.qos= cluster.slurm.mem= cluster.slurm.extra= cluster.slurm.modules= cluster.slurm.setup= cluster.slurm.launcher= cluster.slurm.launcher_options= cluster.slurm.container_image= cluster.slurm.container_mounts= cluster.slurm.program= cluster.slurm.signal_lead= cluster.slurm.max_stops_without_progress=' ;;
            run) words='--force-unlock --quiet --help model= allow_requantize= backend= output.dir= output.imatrix= calibration.text= calibration.num_calibration_samples= calibration.max_seq_length= calibration.seed= calibration.block_tokens= calibration.add_bos= evaluate.text= evaluate.context= evaluate.metrics= evaluate.max_windows= evaluate.add_bos= evaluate.variant= cluster.mode= cluster.threads= cluster.memory_per_rank= cluster.products= cluster.walltime= cluster.stop_seconds= cluster.heartbeat= cluster.peer_deadline= cluster.collective_deadline= cluster.checkpoint.every_layers= cluster.checkpoint.keep= cluster.checkpoint.partial= cluster.checkpoint.remove_when_done= cluster.log= cluster.slurm.job_name= cluster.slurm.nodes= cluster.slurm.tasks_per_node= cluster.slurm.cpus_per_task= cluster.slurm.gpus_per_node= cluster.slurm.time= cluster.slurm.partition= cluster.slurm.account= cluster.slurm.qos= cluster.slurm.mem= cluster.slurm.extra= cluster.slurm.modules= cluster.slurm.setup= cluster.slurm.launcher= cluster.slurm.launcher_options= cluster.slurm.container_image= cluster.slurm.container_mounts= cluster.slurm.program= cluster.slurm.signal_lead= cluster.slurm.max_stops_without_progress=' ;;
            resume) words='--force-unlock --quiet --help' ;;
            status) words='--watch --every --json --help' ;;
            submit) words='--dry-run --array --dependency --quiet --help model= allow_requantize= backend= output.dir= output.imatrix= calibration.text= calibration.num_calibration_samples= calibration.max_seq_length= calibration.seed= calibration.block_tokens= calibration.add_bos= evaluate.text= evaluate.context= evaluate.metrics= evaluate.max_windows= evaluate.add_bos= evaluate.variant= cluster.mode= cluster.threads= cluster.memory_per_rank= cluster.products= cluster.walltime= cluster.stop_seconds= cluster.heartbeat= cluster.peer_deadline= cluster.collective_deadline= cluster.checkpoint.every_layers= cluster.checkpoint.keep= cluster.checkpoint.partial= cluster.checkpoint.remove_when_done= cluster.log= cluster.slurm.job_name= cluster.slurm.nodes= cluster.slurm.tasks_per_node= cluster.slurm.cpus_per_task= cluster.slurm.gpus_per_node= cluster.slurm.time= cluster.slurm.partition= cluster.slurm.account= cluster.slurm.qos= cluster.slurm.mem= cluster.slurm.extra= cluster.slurm.modules= cluster.slurm.setup= cluster.slurm.launcher= cluster.slurm.launcher_options= cluster.slurm.container_image= cluster.slurm.container_mounts= cluster.slurm.program= cluster.slurm.signal_lead= cluster.slurm.max_stops_without_progress=' ;;
            eval) words='--text --base --context --max-windows --variant --add-bos --tokenizer --backend --threads --quiet --json --help' ;;
            verify) words='--json --help' ;;
            inspect) words='--json --help' ;;
            imatrix) words='--json --help' ;;
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
