/* The keys of cluster.slurm: what the batch script of a job asks for. */
#ifndef RP_JOBS_SLURM_KEYS_H
#define RP_JOBS_SLURM_KEYS_H

#include "jobs/options.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_slurm_launcher { RP_LAUNCHER_SRUN = 0, RP_LAUNCHER_MPIRUN } rp_slurm_launcher;

/* rp_job_slurm.mem_bytes. */
#define RP_SLURM_MEM_ALL (-1)

typedef struct rp_job_slurm {
    char *job_name; /* NULL: from output.dir */
    char *nodes;    /* "2" or "1-4" */
    int64_t tasks_per_node;
    int64_t cpus_per_task; /* 0: the site's default */
    char *gpus_per_node;
    double time_seconds; /* 0: the partition's default */
    char *partition, *account, *qos;
    int64_t mem_bytes;    /* of a node; 0: the site's default; RP_SLURM_MEM_ALL */
    rp_string_list extra; /* options of sbatch */
    rp_string_list modules;
    rp_string_list setup; /* lines of shell */
    int64_t launcher;     /* rp_slurm_launcher */
    rp_string_list launcher_options;
    char *container_image;
    rp_string_list container_mounts;
    char *program; /* path on the nodes; NULL: this program's own, "rankpress" in a container */
    double signal_lead_seconds;
    int64_t max_stops_without_progress;
} rp_job_slurm;

/* The rows, of rp_job_slurm; none is part of the job hash. */
extern const rp_option rp_slurm_keys[];

#ifdef __cplusplus
}
#endif
#endif
