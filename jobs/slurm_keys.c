/* One row a key, as in job_keys.c. Names are those of sbatch's options where it has one. */
#include "jobs/slurm_keys.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define AT(member) .offset = offsetof(rp_job_slurm, member), .is_local = true

static const rp_option_word site_words[] = {{"site", 0}, {NULL, 0}};
static const rp_option_word mem_words[] = {{"site", 0}, {"all", RP_SLURM_MEM_ALL}, {NULL, 0}};
static const rp_option_word launcher_words[] = {
    {"srun", RP_LAUNCHER_SRUN}, {"mpirun", RP_LAUNCHER_MPIRUN}, {NULL, 0}};

/* A value becomes part of one line of a script. */
static rp_status check_line(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            return RP_FAIL(RP_ERR_USAGE, "want one line of text, got a control character");
        }
    }
    return RP_OK;
}

static rp_status check_option(const char *text)
{
    if (*text != '-') {
        return RP_FAIL(RP_ERR_USAGE, "want an option such as --exclusive, got \"%s\"", text);
    }
    return check_line(text);
}

/* "4", or "2-4": as many of these as are free. */
static rp_status check_nodes(const char *text)
{
    int least = 0;
    int most = 0;
    int used = 0;

    if (sscanf(text, "%6d%n", &least, &used) != 1 || least < 1) {
        used = 0;
    } else if (text[used] == '-' && sscanf(text + used, "-%6d%n", &most, &used) == 1) {
        used = most >= least ? (int)strlen(text) : 0;
    }
    if (used == 0 || text[used] != '\0') {
        return RP_FAIL(RP_ERR_USAGE, "want a number of nodes, such as 4, or 2-4, got \"%s\"", text);
    }
    return RP_OK;
}

const rp_option rp_slurm_keys[] = {
    {.name = "job_name",
     .type = RP_OPTION_STRING,
     AT(job_name),
     .check = check_line,
     .help = "name in the queue; default: that of output.dir"},
    {.name = "nodes",
     .type = RP_OPTION_STRING,
     AT(nodes),
     .fallback = "1",
     .check = check_nodes,
     .help = "nodes; 2-4: as many of these as are free, so that a dead node is not waited for"},
    {.name = "tasks_per_node",
     .type = RP_OPTION_INT,
     AT(tasks_per_node),
     .fallback = "1",
     .min = 1,
     .max = 4096,
     .help = "ranks of a node"},
    {.name = "cpus_per_task",
     .type = RP_OPTION_INT,
     AT(cpus_per_task),
     .fallback = "site",
     .min = 1,
     .max = 4096,
     .words = site_words,
     .help = "cores of a rank"},
    {.name = "gpus_per_node",
     .type = RP_OPTION_STRING,
     AT(gpus_per_node),
     .check = check_line,
     .help = "GPUs of a node: 4, a100:4"},
    {.name = "time",
     .type = RP_OPTION_SECONDS,
     AT(time_seconds),
     .fallback = "site",
     .min = 60,
     .max = 1e8,
     .words = site_words,
     .help = "time limit of one go; a job that needs more requeues itself"},
    {.name = "partition",
     .type = RP_OPTION_STRING,
     AT(partition),
     .check = check_line,
     .help = "partition"},
    {.name = "account",
     .type = RP_OPTION_STRING,
     AT(account),
     .check = check_line,
     .help = "account that pays"},
    {.name = "qos",
     .type = RP_OPTION_STRING,
     AT(qos),
     .check = check_line,
     .help = "quality of service"},
    {.name = "mem",
     .type = RP_OPTION_BYTES,
     AT(mem_bytes),
     .fallback = "site",
     .min = 1 << 20,
     .max = 1e15,
     .words = mem_words,
     .help = "memory of a node"},
    {.name = "extra",
     .type = RP_OPTION_STRINGS,
     AT(extra),
     .check = check_option,
     .help = "further options of sbatch, one an entry: --exclusive"},
    {.name = "modules",
     .type = RP_OPTION_STRINGS,
     AT(modules),
     .check = check_line,
     .help = "environment modules to load"},
    {.name = "setup",
     .type = RP_OPTION_STRINGS,
     AT(setup),
     .check = check_line,
     .help = "lines of shell that run before the ranks start"},
    {.name = "launcher",
     .type = RP_OPTION_WORD,
     AT(launcher),
     .fallback = "srun",
     .words = launcher_words,
     .help = "what starts the ranks: srun with PMIx, or Open MPI's mpirun"},
    {.name = "launcher_options",
     .type = RP_OPTION_STRINGS,
     AT(launcher_options),
     .check = check_line,
     .help = "further arguments of the launcher, one an entry: --mpi=pmix_v4"},
    {.name = "container_image",
     .type = RP_OPTION_STRING,
     AT(container_image),
     .check = check_line,
     .help = "image that the ranks run in (srun with Pyxis and Enroot)"},
    {.name = "container_mounts",
     .type = RP_OPTION_STRINGS,
     AT(container_mounts),
     .check = check_line,
     .help = "what the container sees of the cluster, one an entry: /data:/data"},
    {.name = "program",
     .type = RP_OPTION_STRING,
     AT(program),
     .check = check_line,
     .help = "rankpress on the nodes; default: the program that submits, in a container rankpress"},
    {.name = "signal_lead",
     .type = RP_OPTION_SECONDS,
     AT(signal_lead_seconds),
     .fallback = "5m",
     .min = 1,
     .max = 65535,
     .help = "Slurm asks for a stop so long before the time limit; at most half of the limit"},
    {.name = "max_stops_without_progress",
     .type = RP_OPTION_INT,
     AT(max_stops_without_progress),
     .fallback = "3",
     .min = 1,
     .max = 1000,
     .help = "a job that was stopped so often in a row without a commit gives up"},
    {.name = NULL},
};
