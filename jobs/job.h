/* The job: what one YAML file and its command line overrides ask for, checked, every default
 * filled.
 *
 * job_keys.c holds the one table of keys (path, type, bounds, default, help, part of the job hash
 * or not) that the parser, the writer, the hash and the documentation use. */
#ifndef RP_JOBS_JOB_H
#define RP_JOBS_JOB_H

#include "base/hash.h"
#include "base/status.h"
#include "formats/container.h"
#include "jobs/options.h"
#include "jobs/slurm_keys.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Order of the variants in job_keys.c. */
typedef enum rp_method { RP_METHOD_RTN = 0, RP_METHOD_GPTQ, RP_METHOD_COUNT } rp_method;

/* What a linear makes good of the changes that earlier compression made to its inputs
 * (jobs/drift.h). */
typedef enum rp_drift_mode {
    RP_DRIFT_NONE = 0,
    RP_DRIFT_ASYMMETRIC, /* of its own inputs */
    RP_DRIFT_FULL        /* and, where it writes to the residual stream, of the stream */
} rp_drift_mode;

typedef enum rp_format_kind {
    RP_FORMAT_GGUF = 0,
    RP_FORMAT_GPTQ,
    RP_FORMAT_COMPRESSED_TENSORS,
    RP_FORMAT_SAFETENSORS,
    RP_FORMAT_COUNT
} rp_format_kind;

typedef enum rp_gate_kind {
    RP_GATE_PERPLEXITY_RATIO = 0, /* after / before */
    RP_GATE_SIZE_RATIO,           /* bytes after / before, of the first output */
    RP_GATE_KL_DIVERGENCE,        /* mean, nats a token */
    RP_GATE_FALLBACKS,            /* tensors that ended in round-to-nearest by failure */
    RP_GATE_COUNT
} rp_gate_kind;

typedef enum rp_metric {
    RP_METRIC_PERPLEXITY = 1,
    RP_METRIC_KL_DIVERGENCE = 2,
    RP_METRIC_TOP1_AGREEMENT = 4
} rp_metric;

typedef enum rp_window_variant {
    RP_WINDOWS_PLAIN = 0, /* every token of a window but the first is scored */
    RP_WINDOWS_LLAMA_CPP  /* llama-perplexity: the second half of a window alone */
} rp_window_variant;

/* Where operations run. AUTO: a GPU if every rank has one. */
typedef enum rp_backend { RP_BACKEND_AUTO = 0, RP_BACKEND_CPU, RP_BACKEND_CUDA } rp_backend;

/* Entries of output.formats. */
#define RP_MAX_OUTPUTS 8
/* Fields of the products key: RP_PRODUCTS_F32 and _BF16 of kernels/ops.h, or this. */
#define RP_PRODUCTS_AUTO (-1)
/* output.formats[].dtype: an rp_dtype, or the model's own type. */
#define RP_DTYPE_AUTO (-1)

/* Order of the columns in gptq. AUTO: static on integer grids, none on GGUF's. */
typedef enum rp_actorder { RP_ACTORDER_NONE = 0, RP_ACTORDER_STATIC, RP_ACTORDER_AUTO } rp_actorder;
/* recipe_step.sweeps: 4 on GGUF's grids, 0 on integer ones. */
#define RP_SWEEPS_AUTO (-1)

/* Words of a step's imatrix that are no paths. */
#define RP_IMATRIX_NONE "none"
#define RP_IMATRIX_CALIBRATION "calibration"

/* Part of a step that overrides may change; after parsing everything is resolved (scheme, step). */
typedef struct rp_step_scheme {
    int64_t bits;          /* 2..8 */
    int64_t is_symmetric;  /* 0 or 1 */
    int64_t group_size;    /* columns; -1: per channel */
    int64_t mse;           /* 0 or 1: clipping search */
    int64_t actorder;      /* rp_actorder */
    double dampening_frac; /* of the mean diagonal; gptq */
} rp_step_scheme;

typedef struct rp_recipe_override {
    rp_string_list targets;
    rp_step_scheme scheme;
} rp_recipe_override;

typedef struct rp_recipe_overrides {
    rp_recipe_override *items;
    int64_t n;
} rp_recipe_overrides;

typedef struct rp_recipe_step {
    int64_t method; /* rp_method */
    rp_string_list targets, ignore;
    int64_t preset; /* the scheme's name, a word of job_keys.c: "W4A16" */
    rp_step_scheme scheme;
    int64_t drift;      /* rp_drift_mode */
    char *imatrix;      /* rtn: RP_IMATRIX_NONE, _CALIBRATION or a path; NULL for others */
    int64_t block_size; /* columns of a lazy block, gptq */
    int64_t sweeps;     /* of coordinate descent after it, or RP_SWEEPS_AUTO */
    rp_recipe_overrides overrides;
} rp_recipe_step;

typedef struct rp_recipe {
    rp_recipe_step *items;
    int64_t n;
} rp_recipe;

typedef struct rp_output_format {
    int64_t kind;         /* rp_format_kind */
    char *name;           /* file (gguf) or folder below output.dir; never NULL after parsing */
    char *gguf_type;      /* gguf: the mix, "Q4_K_M"; NULL: a size decides */
    double target_bpw;    /* gguf: size of the file, bits per weight; 0: none asked */
    int64_t target_bytes; /* gguf: the same in bytes */
    rp_string_list tensor_types; /* gguf: "PATTERN=TYPE"; the first that matches counts */
    char *output_tensor_type, *token_embedding_type; /* gguf: NULL: as the mix has it */
    bool is_pure;                                    /* gguf: no rules of the mix */
    int64_t is_v2;                                   /* gptq: checkpoint_format gptq_v2 */
    int64_t dtype;           /* of dense tensors: rp_dtype or RP_DTYPE_AUTO; not gguf */
    int64_t max_shard_bytes; /* 0: one file (gguf) */
} rp_output_format;

typedef struct rp_output_formats {
    rp_output_format *items;
    int64_t n;
} rp_output_formats;

typedef struct rp_gate {
    int64_t kind; /* rp_gate_kind */
    double limit; /* fails when the measured value is greater */
} rp_gate;

typedef struct rp_gates {
    rp_gate *items;
    int64_t n;
} rp_gates;

typedef struct rp_job_output {
    char *dir;
    rp_output_formats formats; /* at least one; the first drives what later layers see */
    char *imatrix;             /* name of the importance matrix to write; NULL: none */
} rp_job_output;

typedef struct rp_job_calibration {
    char *text; /* NULL: no calibration (a recipe of rtn alone) */
    int64_t num_samples;
    int64_t max_seq_length; /* tokens; 0: the smaller of 2048 and the model's limit */
    int64_t seed;
    int64_t block_tokens; /* tokens of a calibration block */
    bool add_bos;
} rp_job_calibration;

typedef struct rp_job_evaluate {
    char *text;      /* NULL: no evaluation */
    int64_t context; /* tokens of a window; 0: the smaller of 2048 and the model's limit */
    rp_string_list metric_names;
    unsigned metrics;    /* rp_metric, or-ed */
    int64_t max_windows; /* 0: all */
    bool add_bos;
    int64_t variant; /* rp_window_variant */
} rp_job_evaluate;

/* Is a part of a layer saved when the job stops in the middle. */
typedef enum rp_partial { RP_PARTIAL_AUTO = 0, RP_PARTIAL_ALWAYS, RP_PARTIAL_NEVER } rp_partial;

typedef struct rp_job_checkpoint {
    int64_t every_layers;
    int64_t keep;    /* generations */
    int64_t partial; /* rp_partial */
    bool remove_when_done;
} rp_job_checkpoint;

typedef struct rp_job_cluster {
    int64_t mode;            /* 0: exact */
    int64_t threads;         /* of a rank; 0: cores of the node / ranks on it */
    int64_t memory_per_rank; /* bytes; 0: what the node has / ranks on it */
    int64_t products;        /* rp_products or RP_PRODUCTS_AUTO */
    double walltime_seconds; /* 0: none known */
    double stop_seconds;     /* that saving may take at a stop */
    double heartbeat_seconds;
    double peer_deadline_seconds; /* 0: off */
    double collective_deadline_seconds;
    rp_job_checkpoint checkpoint;
    int64_t log_level; /* rp_log_level */
    rp_job_slurm slurm;
} rp_job_cluster;

typedef struct rp_job {
    rp_owner owner;
    char *origin; /* path of the job file, for messages */
    char *model;  /* folder or .gguf file */
    bool allow_requantize;
    int64_t backend; /* rp_backend */
    rp_job_output output;
    rp_job_calibration calibration;
    rp_recipe recipe;
    rp_job_evaluate evaluate;
    rp_gates gates; /* fallbacks is always there, 0 unless the job says otherwise */
    rp_job_cluster cluster;
} rp_job;

/* Local. Reads the file, applies overrides ("a.b=c"; list entries by index:
 * "recipe.0.gptq.scheme=W3A16"), fills defaults, checks. Failures are RP_ERR_CONFIG
 * "job.yaml:7:5: unknown key ..."; an override's place is its own text. */
RP_CHECKED rp_status rp_job_load(rp_job **out, const char *path, const char *const *overrides,
                                 int n_overrides);
/* Local. The same from text in memory; origin names it in messages. */
RP_CHECKED rp_status rp_job_parse(rp_job **out, const char *text, size_t nbytes, const char *origin,
                                  const char *const *overrides, int n_overrides);
void rp_job_destroy(rp_job **job);
/* Local. The resolved job as YAML that rp_job_parse reads back to an equal job; paths absolute;
 * caller frees. */
RP_CHECKED rp_status rp_job_to_yaml(char **out, const rp_job *job);
/* Local. The keys that decide the bytes of the output, one "recipe.0.gptq.bits=4" a line: not
 * paths, ranks, threads, time limits, logging. Caller frees. */
RP_CHECKED rp_status rp_job_lines(char **out, const rp_job *job);
/* Local. Hash of these lines. */
RP_CHECKED rp_status rp_job_hash(rp_hash *out, const rp_job *job);
/* Local. Is this a GGUF output whose size decides its types. */
bool rp_has_size_target(const rp_output_format *format);
/* Local. The table of keys. */
const rp_option *rp_job_keys(void);

/* Local. "rtn", "gptq"; "gguf", "gptq" ...; "perplexity_ratio" ... */
const char *rp_method_name(int64_t method);
const char *rp_format_kind_name(int64_t kind);
const char *rp_gate_name(int64_t kind);

/* What the recipe says of one linear. */
typedef struct rp_linear_choice {
    bool is_dense; /* no step targets it: the rest is empty */
    int64_t step;  /* index in recipe */
    rp_method method;
    rp_scheme scheme;
    rp_actorder actorder; /* in rp_linear never AUTO */
    double dampening_frac;
    rp_drift_mode drift;
    const char *imatrix;     /* path of an importance matrix, borrowed; NULL: none */
    bool weighs_by_own_sums; /* with the importance that this job's calibration shows */
    int64_t block_size;
    int64_t sweeps; /* or RP_SWEEPS_AUTO: rp_linear_sweeps */
} rp_linear_choice;

/* Local. For a linear's module name ("model.layers.0.self_attn.q_proj", without ".weight"). The
 * first step that targets and does not ignore it decides; in that step the first matching override.
 * Targets: a full module name, "re:" and a regular expression that must match from the start of the
 * name, or the class "Linear". */
RP_CHECKED rp_status rp_recipe_match(rp_linear_choice *out, const rp_job *job, const char *module);
/* Local. RP_ERR_CONFIG naming the first target of a step or override that matches none of
 * modules[n]. */
RP_CHECKED rp_status rp_recipe_check(const rp_job *job, const char *const *modules, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
