/* The keys of a job file, one row each. Names follow what people know from llm-compressor and
 * llama.cpp. The order is that of the resolved job and of the documentation. */
#include "jobs/job.h"

#include "base/log.h"
#include "base/mem.h"
#include "jobs/backend.h"
#include "jobs/gguf_types.h"
#include "jobs/recipe.h"
#include "kernels/ops.h"

#include <string.h>

#define END_ROW                                                                                    \
    {                                                                                              \
        .name = NULL                                                                               \
    }
/* Fields of the struct that the current table describes. */
#define AT(member) .offset = offsetof(STRUCT, member)

static const rp_option_word auto_words[] = {{"auto", 0}, {NULL, 0}};
static const rp_option_word none_words[] = {{"none", 0}, {NULL, 0}};
static const rp_option_word all_words[] = {{"all", 0}, {NULL, 0}};

/* ---- output ---- */

#define MIX_WORD(name, file_type, base) {#name, file_type},
static const rp_option_word gguf_type_words[] = {RP_GGUF_MIXES(MIX_WORD){NULL, 0}};
static const rp_option_word gptq_version_words[] = {{"gptq", 0}, {"gptq_v2", 1}, {NULL, 0}};
static const rp_option_word dtype_words[] = {
    {"auto", RP_DTYPE_AUTO}, {"F32", RP_F32}, {"F16", RP_F16}, {"BF16", RP_BF16}, {NULL, 0}};

/* A name below output.dir that cannot leave it, hide in it or be one of the program's own. */
static rp_status check_output_name(const char *text)
{
    static const char *const own[] = {"job.yaml",   "report.json", "report.html", "README.md",
                                      "checkpoint", "log",         "slurm",       "job.sbatch"};

    if (*text == '\0' || *text == '.' || strchr(text, '/') != NULL) {
        return RP_FAIL(RP_ERR_USAGE, "want a plain file name, got \"%s\"", text);
    }
    for (size_t i = 0; i < RP_COUNT(own); i++) {
        if (strcmp(text, own[i]) == 0) {
            return RP_FAIL(RP_ERR_USAGE, "\"%s\" is a name that rankpress itself uses there", text);
        }
    }
    return RP_OK;
}

#define STRUCT rp_output_format
#define NAME_ROW(shown)                                                                            \
    {                                                                                              \
        .name = "name", .type = RP_OPTION_STRING, AT(name), .check = check_output_name,            \
        .is_local = true, .help = "name below output.dir; default: " shown                         \
    }
#define SHARD_ROW                                                                                  \
    {                                                                                              \
        .name = "max_shard_size", .type = RP_OPTION_BYTES, AT(max_shard_bytes), .fallback = "5GB", \
        .min = 65536, .max = 1e15, .help = "a safetensors file is at most this large"              \
    }
#define DTYPE_ROW(auto_type)                                                                       \
    {                                                                                              \
        .name = "dtype", .type = RP_OPTION_WORD, AT(dtype), .fallback = "auto",                    \
        .words = dtype_words, .help = "type of dense tensors and scales; auto: " auto_type         \
    }
static const rp_option gguf_rows[] = {
    {.name = "type",
     .type = RP_OPTION_STRING,
     AT(gguf_type),
     .words = gguf_type_words,
     .is_bare = true,
     .help = "type or mix of types, as llama-quantize chooses them for each tensor"},
    {.name = "target_bpw",
     .type = RP_OPTION_REAL,
     AT(target_bpw),
     .fallback = "none",
     .min = 0.5,
     .max = 32,
     .words = none_words,
     .help = "bits per weight that the file may have: types are chosen by their measured loss"},
    {.name = "target_size",
     .type = RP_OPTION_BYTES,
     AT(target_bytes),
     .fallback = "none",
     .min = 1,
     .max = 1e15,
     .words = none_words,
     .help = "the same as the size of the file; one of the two, in place of type"},
    {.name = "tensor_types",
     .type = RP_OPTION_STRINGS,
     AT(tensor_types),
     .check = rp_tensor_type_check,
     .help = "\"PATTERN=TYPE\": tensors whose GGUF name matches get this type; the first counts"},
    {.name = "output_tensor_type",
     .type = RP_OPTION_STRING,
     AT(output_tensor_type),
     .check = rp_gguf_type_check,
     .help = "type of output.weight; default: the mix's"},
    {.name = "token_embedding_type",
     .type = RP_OPTION_STRING,
     AT(token_embedding_type),
     .check = rp_gguf_type_check,
     .help = "type of token_embd.weight; default: the mix's"},
    {.name = "pure",
     .type = RP_OPTION_BOOL,
     AT(is_pure),
     .fallback = "false",
     .help = "the mix's main type for all tensors, none with more bits"},
    {.name = "max_shard_size",
     .type = RP_OPTION_BYTES,
     AT(max_shard_bytes),
     .fallback = "none",
     .min = 65536,
     .max = 1e15,
     .words = none_words,
     .help = "tensors of one file; more make NAME-00001-of-0000N.gguf and so on; none: one file"},
    NAME_ROW("model-TYPE.gguf, model-4.50bpw.gguf"),
    END_ROW,
};
static const rp_option gptq_format_rows[] = {
    {.name = "checkpoint_format",
     .type = RP_OPTION_WORD,
     AT(is_v2),
     .fallback = "gptq",
     .words = gptq_version_words,
     .help = "gptq stores zero points minus one, gptq_v2 as they are"},
    DTYPE_ROW("F16"),
    SHARD_ROW,
    NAME_ROW("the checkpoint_format"),
    END_ROW,
};
static const rp_option compressed_tensors_rows[] = {
    DTYPE_ROW("the model's"),
    SHARD_ROW,
    NAME_ROW("compressed-tensors"),
    END_ROW,
};
static const rp_option safetensors_rows[] = {
    DTYPE_ROW("the model's"),
    SHARD_ROW,
    NAME_ROW("safetensors"),
    END_ROW,
};
static const rp_option format_rows[] = {
    [RP_FORMAT_GGUF] = {.name = "gguf",
                        .type = RP_OPTION_SECTION,
                        .rows = gguf_rows,
                        .help = "one GGUF file; {gguf: Q4_0} for short"},
    [RP_FORMAT_GPTQ] = {.name = "gptq",
                        .type = RP_OPTION_SECTION,
                        .rows = gptq_format_rows,
                        .help = "safetensors in GPTQ's layout"},
    [RP_FORMAT_COMPRESSED_TENSORS] = {.name = "compressed-tensors",
                                      .type = RP_OPTION_SECTION,
                                      .rows = compressed_tensors_rows,
                                      .help = "safetensors, pack-quantized; 4 or 8 bits"},
    [RP_FORMAT_SAFETENSORS] = {.name = "safetensors",
                               .type = RP_OPTION_SECTION,
                               .rows = safetensors_rows,
                               .help = "plain safetensors, dequantised"},
    END_ROW,
};
#undef STRUCT

#define STRUCT rp_job_output
static const rp_option output_rows[] = {
    {.name = "dir",
     .type = RP_OPTION_PATH,
     AT(dir),
     .is_required = true,
     .is_local = true,
     .help = "folder for outputs, report, logs and checkpoints"},
    {.name = "formats",
     .type = RP_OPTION_VARIANTS,
     AT(formats),
     .rows = format_rows,
     .item_bytes = sizeof(rp_output_format),
     .is_required = true,
     .help = "what to write; the first decides what later layers see"},
    {.name = "imatrix",
     .type = RP_OPTION_STRING,
     AT(imatrix),
     .check = check_output_name,
     .is_local = true,
     .help = "name below output.dir of an importance matrix to write for llama-quantize: sums of "
             "squares of the linears' calibration inputs; .dat: the older kind; none: not written"},
    END_ROW,
};
#undef STRUCT

/* ---- calibration ---- */

#define STRUCT rp_job_calibration
static const rp_option calibration_rows[] = {
    {.name = "text",
     .type = RP_OPTION_PATH,
     AT(text),
     .is_local = true,
     .help = "UTF-8 text to calibrate on; gptq needs it"},
    {.name = "num_calibration_samples",
     .type = RP_OPTION_INT,
     AT(num_samples),
     .fallback = "128",
     .min = 1,
     .max = 1e7,
     .help = "sequences to calibrate on"},
    {.name = "max_seq_length",
     .type = RP_OPTION_INT,
     AT(max_seq_length),
     .fallback = "auto",
     .min = 1,
     .max = 1 << 20,
     .words = auto_words,
     .help = "tokens of a sequence; auto: 2048 or the model's limit if that is less"},
    {.name = "seed",
     .type = RP_OPTION_INT,
     AT(seed),
     .fallback = "0",
     .min = 0,
     .max = 9007199254740992.0,
     .help = "chooses the sequences; 0: the text from its start"},
    {.name = "block_tokens",
     .type = RP_OPTION_INT,
     AT(block_tokens),
     .fallback = "2048",
     .min = 1,
     .max = 1 << 24,
     .help = "tokens of a calibration block (whole sequences, at least one): the unit of work"},
    {.name = "add_bos",
     .type = RP_OPTION_BOOL,
     AT(add_bos),
     .fallback = "false",
     .help = "put the model's BOS before every sequence"},
    END_ROW,
};
#undef STRUCT

/* ---- recipe ---- */

/* Bits and, from 16 up, asymmetric: a preset's value. Groups of 128; 8 bits per channel. */
#define PRESET(bits, is_asymmetric) ((bits) + 16 * (is_asymmetric))
#define PRESET_WORDS(n)                                                                            \
    {"W" #n "A16", PRESET(n, 0)},                                                                  \
    {                                                                                              \
        "W" #n "A16_ASYM", PRESET(n, 1)                                                            \
    }
static const rp_option_word preset_words[] = {PRESET_WORDS(2), PRESET_WORDS(3), PRESET_WORDS(4),
                                              PRESET_WORDS(5), PRESET_WORDS(6), PRESET_WORDS(7),
                                              PRESET_WORDS(8), {NULL, 0}};
static const rp_option_word bits_words[] = {{"scheme", RP_FROM_ABOVE}, {NULL, 0}};
static const rp_option_word symmetric_words[] = {
    {"false", 0}, {"true", 1}, {"scheme", RP_FROM_ABOVE}, {NULL, 0}};
static const rp_option_word group_words[] = {
    {"channel", -1}, {"-1", -1}, {"scheme", RP_FROM_ABOVE}, {NULL, 0}};
static const rp_option_word bool_words[] = {{"false", 0}, {"true", 1}, {NULL, 0}};
static const rp_option_word drift_words[] = {{"none", RP_DRIFT_NONE},
                                             {"asymmetric", RP_DRIFT_ASYMMETRIC},
                                             {"full", RP_DRIFT_FULL},
                                             {NULL, 0}};
static const rp_option_word actorder_words[] = {{"none", RP_ACTORDER_NONE},
                                                {"static", RP_ACTORDER_STATIC},
                                                {"auto", RP_ACTORDER_AUTO},
                                                {NULL, 0}};
static const rp_option_word sweeps_words[] = {{"auto", RP_SWEEPS_AUTO}, {NULL, 0}};
static const rp_option_word imatrix_words[] = {
    {RP_IMATRIX_NONE, 0}, {RP_IMATRIX_CALIBRATION, 0}, {NULL, 0}};
/* In an override the word for "as the step has it" is "step". */
static const rp_option_word step_bits_words[] = {{"step", RP_FROM_ABOVE}, {NULL, 0}};
static const rp_option_word step_bool_words[] = {
    {"false", 0}, {"true", 1}, {"step", RP_FROM_ABOVE}, {NULL, 0}};
static const rp_option_word step_group_words[] = {
    {"channel", -1}, {"-1", -1}, {"step", RP_FROM_ABOVE}, {NULL, 0}};
static const rp_option_word step_actorder_words[] = {{"none", RP_ACTORDER_NONE},
                                                     {"static", RP_ACTORDER_STATIC},
                                                     {"auto", RP_ACTORDER_AUTO},
                                                     {"step", RP_FROM_ABOVE},
                                                     {NULL, 0}};

#define BITS_ROW(words_, fallback_)                                                                \
    {                                                                                              \
        .name = "bits", .type = RP_OPTION_INT, AT(scheme.bits), .fallback = (fallback_), .min = 2, \
        .max = 8, .words = (words_), .help = "bits of a code"                                      \
    }
#define SYMMETRIC_ROW(words_, fallback_)                                                           \
    {                                                                                              \
        .name = "symmetric", .type = RP_OPTION_WORD, AT(scheme.is_symmetric),                      \
        .fallback = (fallback_), .words = (words_),                                                \
        .help = "zero in the middle of the codes, or a zero point a group"                         \
    }
#define GROUP_ROW(words_, fallback_)                                                               \
    {                                                                                              \
        .name = "group_size", .type = RP_OPTION_INT, AT(scheme.group_size),                        \
        .fallback = (fallback_), .min = 1, .max = 1 << 20, .words = (words_),                      \
        .help = "columns that share a scale; channel (or -1): the whole row"                       \
    }
#define MSE_ROW(words_, fallback_)                                                                 \
    {                                                                                              \
        .name = "mse", .type = RP_OPTION_WORD, AT(scheme.mse), .fallback = (fallback_),            \
        .words = (words_), .help = "search for the clipping with the least squared error"          \
    }
#define ACTORDER_ROW(words_, fallback_)                                                            \
    {                                                                                              \
        .name = "actorder", .type = RP_OPTION_WORD, AT(scheme.actorder), .fallback = (fallback_),  \
        .words = (words_),                                                                         \
        .help = "static: columns by activation, groups as stored; auto: static, GGUF none"         \
    }
#define DAMPENING_ROW(words_, fallback_)                                                           \
    {                                                                                              \
        .name = "dampening_frac", .type = RP_OPTION_REAL, AT(scheme.dampening_frac),               \
        .fallback = (fallback_), .min = 0, .max = 1, .words = (words_),                            \
        .help = "added to the Gram matrix' diagonal, as a part of its mean"                        \
    }
#define OVERRIDE_TARGETS_ROW                                                                       \
    {                                                                                              \
        .name = "targets", .type = RP_OPTION_STRINGS, AT(targets), .is_required = true,            \
        .check = rp_target_check, .help = "the linears it is for, as in the step's targets"        \
    }

#define STRUCT rp_recipe_override
static const rp_option rtn_override_rows[] = {
    OVERRIDE_TARGETS_ROW,
    BITS_ROW(step_bits_words, "step"),
    SYMMETRIC_ROW(step_bool_words, "step"),
    GROUP_ROW(step_group_words, "step"),
    MSE_ROW(step_bool_words, "step"),
    DAMPENING_ROW(step_bits_words, "step"),
    END_ROW,
};
static const rp_option gptq_override_rows[] = {
    OVERRIDE_TARGETS_ROW,
    BITS_ROW(step_bits_words, "step"),
    SYMMETRIC_ROW(step_bool_words, "step"),
    GROUP_ROW(step_group_words, "step"),
    MSE_ROW(step_bool_words, "step"),
    ACTORDER_ROW(step_actorder_words, "step"),
    DAMPENING_ROW(step_bits_words, "step"),
    END_ROW,
};
#undef STRUCT

#define STRUCT rp_recipe_step
#define TARGET_ROWS                                                                                \
    {.name = "targets",                                                                            \
     .type = RP_OPTION_STRINGS,                                                                    \
     AT(targets),                                                                                  \
     .fallback = "Linear",                                                                         \
     .check = rp_target_check,                                                                     \
     .help = "linears by full name, by \"re:\" and a pattern, or by class: Linear"},               \
        {.name = "ignore",                                                                         \
         .type = RP_OPTION_STRINGS,                                                                \
         AT(ignore),                                                                               \
         .fallback = "lm_head",                                                                    \
         .check = rp_target_check,                                                                 \
         .help = "linears that this step leaves alone, written the same way"},                     \
    {                                                                                              \
        .name = "scheme", .type = RP_OPTION_WORD, AT(preset), .fallback = "W4A16",                 \
        .words = preset_words,                                                                     \
        .help = "preset: bits, symmetric (or _ASYM), groups of 128; 8 bits per channel"            \
    }
#define DRIFT_ROW(fallback_)                                                                       \
    {                                                                                              \
        .name = "drift", .type = RP_OPTION_WORD, AT(drift), .fallback = (fallback_),               \
        .words = drift_words,                                                                      \
        .help = "makes good what earlier compression changed: in a linear's inputs (asymmetric), " \
                "in the residual stream too (full); carries the uncompressed model's stream along" \
    }
#define OVERRIDES_ROW(rows_)                                                                       \
    {                                                                                              \
        .name = "overrides", .type = RP_OPTION_ITEMS, AT(overrides), .rows = (rows_),              \
        .item_bytes = sizeof(rp_recipe_override),                                                  \
        .help = "other values for some of the linears; the first that matches counts"              \
    }
static const rp_option rtn_rows[] = {
    TARGET_ROWS,
    BITS_ROW(bits_words, "scheme"),
    SYMMETRIC_ROW(symmetric_words, "scheme"),
    GROUP_ROW(group_words, "scheme"),
    MSE_ROW(bool_words, "false"),
    DAMPENING_ROW(NULL, "0.01"),
    DRIFT_ROW("none"),
    {.name = "imatrix",
     .type = RP_OPTION_PATH,
     AT(imatrix),
     .fallback = RP_IMATRIX_NONE,
     .words = imatrix_words,
     .help = "importance of the columns: a file of llama-imatrix or of output.imatrix, or what "
             "this job's calibration shows"},
    OVERRIDES_ROW(rtn_override_rows),
    END_ROW,
};
static const rp_option gptq_rows[] = {
    TARGET_ROWS,
    BITS_ROW(bits_words, "scheme"),
    SYMMETRIC_ROW(symmetric_words, "scheme"),
    GROUP_ROW(group_words, "scheme"),
    MSE_ROW(bool_words, "false"),
    ACTORDER_ROW(actorder_words, "auto"),
    DAMPENING_ROW(NULL, "0.01"),
    DRIFT_ROW("full"),
    {.name = "block_size",
     .type = RP_OPTION_INT,
     AT(block_size),
     .fallback = "128",
     .min = 1,
     .max = 4096,
     .help = "columns solved before their errors are pushed on"},
    {.name = "sweeps",
     .type = RP_OPTION_INT,
     AT(sweeps),
     .fallback = "auto",
     .min = 0,
     .max = 1000,
     .words = sweeps_words,
     .help = "passes of coordinate descent after it; auto: 4 for GGUF's types, else 0"},
    OVERRIDES_ROW(gptq_override_rows),
    END_ROW,
};
static const rp_option method_rows[] = {
    [RP_METHOD_RTN] = {.name = "rtn",
                       .type = RP_OPTION_SECTION,
                       .rows = rtn_rows,
                       .help = "round to nearest; needs no calibration"},
    [RP_METHOD_GPTQ] = {.name = "gptq",
                        .type = RP_OPTION_SECTION,
                        .rows = gptq_rows,
                        .help = "error feedback in the order of the columns"},
    END_ROW,
};
#undef STRUCT

/* ---- evaluation and gates ---- */

static const rp_option_word metric_words[] = {{"perplexity", RP_METRIC_PERPLEXITY},
                                              {"kl_divergence", RP_METRIC_KL_DIVERGENCE},
                                              {"top1_agreement", RP_METRIC_TOP1_AGREEMENT},
                                              {NULL, 0}};
static const rp_option_word variant_words[] = {
    {"plain", RP_WINDOWS_PLAIN}, {"llama_cpp", RP_WINDOWS_LLAMA_CPP}, {NULL, 0}};

#define STRUCT rp_job_evaluate
static const rp_option evaluate_rows[] = {
    {.name = "text",
     .type = RP_OPTION_PATH,
     AT(text),
     .is_local = true,
     .help = "UTF-8 text to measure on; none: no evaluation"},
    {.name = "context",
     .type = RP_OPTION_INT,
     AT(context),
     .fallback = "auto",
     .min = 2,
     .max = 1 << 20,
     .words = auto_words,
     .is_local = true,
     .help = "tokens of a window; auto: 2048 or the model's limit if that is less"},
    {.name = "metrics",
     .type = RP_OPTION_STRINGS,
     AT(metric_names),
     .fallback = "perplexity",
     .words = metric_words,
     .is_local = true,
     .help = "what to measure on the written files"},
    {.name = "max_windows",
     .type = RP_OPTION_INT,
     AT(max_windows),
     .fallback = "all",
     .min = 1,
     .max = 1e9,
     .words = all_words,
     .is_local = true,
     .help = "stop after so many windows"},
    {.name = "add_bos",
     .type = RP_OPTION_BOOL,
     AT(add_bos),
     .fallback = "false",
     .is_local = true,
     .help = "put the model's BOS before every window"},
    {.name = "variant",
     .type = RP_OPTION_WORD,
     AT(variant),
     .fallback = "plain",
     .words = variant_words,
     .is_local = true,
     .help = "plain scores all of a window; llama_cpp its second half, as llama-perplexity"},
    END_ROW,
};
#undef STRUCT

#define STRUCT rp_gate
static const rp_option limit_rows[] = {
    {.name = "limit",
     .type = RP_OPTION_REAL,
     AT(limit),
     .min = 0,
     .max = 1e9,
     .is_required = true,
     .is_local = true,
     .help = "greater values fail"},
    END_ROW,
};
static const rp_option gate_rows[] = {
    [RP_GATE_PERPLEXITY_RATIO] = {.name = "perplexity_ratio",
                                  .type = RP_OPTION_SECTION,
                                  .rows = limit_rows,
                                  .help = "perplexity after / before, of the first output"},
    [RP_GATE_SIZE_RATIO] = {.name = "size_ratio",
                            .type = RP_OPTION_SECTION,
                            .rows = limit_rows,
                            .help = "bytes after / before, of the first output"},
    [RP_GATE_KL_DIVERGENCE] = {.name = "kl_divergence",
                               .type = RP_OPTION_SECTION,
                               .rows = limit_rows,
                               .help = "mean KL divergence to the model, nats a token"},
    [RP_GATE_FALLBACKS] = {.name = "fallbacks",
                           .type = RP_OPTION_SECTION,
                           .rows = limit_rows,
                           .help =
                               "tensors that a failed solver left rounded to nearest; default 0"},
    END_ROW,
};
#undef STRUCT

/* ---- cluster ---- */

static const rp_option_word mode_words[] = {{"exact", 0}, {NULL, 0}};
static const rp_option_word products_words[] = {
    {"auto", RP_PRODUCTS_AUTO}, {"f32", RP_PRODUCTS_F32}, {"bf16", RP_PRODUCTS_BF16}, {NULL, 0}};
static const rp_option_word log_words[] = {
    {"warn", RP_LOG_WARN}, {"info", RP_LOG_INFO}, {"debug", RP_LOG_DEBUG}, {NULL, 0}};

static const rp_option_word partial_words[] = {{"auto", RP_PARTIAL_AUTO},
                                               {"always", RP_PARTIAL_ALWAYS},
                                               {"never", RP_PARTIAL_NEVER},
                                               {NULL, 0}};

#define STRUCT rp_job_checkpoint
static const rp_option checkpoint_rows[] = {
    {.name = "every_layers",
     .type = RP_OPTION_INT,
     AT(every_layers),
     .fallback = "1",
     .min = 1,
     .max = 1e6,
     .is_local = true,
     .help = "layers from one checkpoint to the next"},
    {.name = "keep",
     .type = RP_OPTION_INT,
     AT(keep),
     .fallback = "2",
     .min = 1,
     .max = 16,
     .is_local = true,
     .help = "generations to keep"},
    {.name = "partial",
     .type = RP_OPTION_WORD,
     AT(partial),
     .fallback = "auto",
     .words = partial_words,
     .is_local = true,
     .help = "save parts of a layer at a stop; auto: what takes longer to do again than to save"},
    {.name = "remove_when_done",
     .type = RP_OPTION_BOOL,
     AT(remove_when_done),
     .fallback = "false",
     .is_local = true,
     .help = "delete the checkpoints of a finished job"},
    END_ROW,
};
#undef STRUCT

#define STRUCT rp_job_cluster
static const rp_option cluster_rows[] = {
    {.name = "mode",
     .type = RP_OPTION_WORD,
     AT(mode),
     .fallback = "exact",
     .words = mode_words,
     .help = "exact: all ranks work on the same layer"},
    {.name = "threads",
     .type = RP_OPTION_INT,
     AT(threads),
     .fallback = "auto",
     .min = 1,
     .max = 4096,
     .words = auto_words,
     .is_local = true,
     .help = "threads of a rank; auto: the node's cores shared by its ranks"},
    {.name = "memory_per_rank",
     .type = RP_OPTION_BYTES,
     AT(memory_per_rank),
     .fallback = "auto",
     .min = 1 << 20,
     .max = 1e18,
     .words = auto_words,
     .is_local = true,
     .help = "limit a rank keeps to; auto: the node's memory shared by its ranks"},
    {.name = "products",
     .type = RP_OPTION_WORD,
     AT(products),
     .fallback = "auto",
     .words = products_words,
     .help =
         "precision of products in the forward pass and of Gram matrices; auto: f32 on the CPU, "
         "bf16 (with fp32 sums) on a GPU, which has no other"},
    {.name = "walltime",
     .type = RP_OPTION_SECONDS,
     AT(walltime_seconds),
     .fallback = "auto",
     .min = 1,
     .max = 1e9,
     .words = auto_words,
     .is_local = true,
     .help = "stop and save before this much time; auto: what the batch system says, or none"},
    {.name = "stop_seconds",
     .type = RP_OPTION_SECONDS,
     AT(stop_seconds),
     .fallback = "45s",
     .min = 0,
     .max = 1e6,
     .is_local = true,
     .help =
         "time that saving may take at a stop, and that is kept for it before the walltime ends"},
    {.name = "heartbeat",
     .type = RP_OPTION_SECONDS,
     AT(heartbeat_seconds),
     .fallback = "5s",
     .min = 0.1,
     .max = 3600,
     .is_local = true,
     .help = "time between a rank's signs of life; at most a quarter of peer_deadline"},
    {.name = "peer_deadline",
     .type = RP_OPTION_SECONDS,
     AT(peer_deadline_seconds),
     .fallback = "60s",
     .min = 0,
     .max = 86400,
     .words = none_words,
     .is_local = true,
     .help = "all ranks end (exit code 75) when one gave no sign of life for so long"},
    {.name = "collective_deadline",
     .type = RP_OPTION_SECONDS,
     AT(collective_deadline_seconds),
     .fallback = "10m",
     .min = 1,
     .max = 86400,
     .is_local = true,
     .help = "the job stops (exit code 75) when a collective between GPUs takes longer"},
    {.name = "checkpoint",
     .type = RP_OPTION_SECTION,
     AT(checkpoint),
     .rows = checkpoint_rows,
     .help = "checkpoints of finished work"},
    {.name = "log",
     .type = RP_OPTION_WORD,
     AT(log_level),
     .fallback = "info",
     .words = log_words,
     .is_local = true,
     .help = "what the ranks' logs hold"},
    {.name = "slurm",
     .type = RP_OPTION_SECTION,
     AT(slurm),
     .rows = rp_slurm_keys,
     .is_local = true,
     .help = "what rankpress submit asks Slurm for"},
    END_ROW,
};
#undef STRUCT

#define STRUCT rp_job
static const rp_option job_rows[] = {
    {.name = "model",
     .type = RP_OPTION_PATH,
     AT(model),
     .is_required = true,
     .is_local = true,
     .help = "Hugging Face folder (safetensors, config.json, tokenizer.json) or a GGUF file"},
    {.name = "allow_requantize",
     .type = RP_OPTION_BOOL,
     AT(allow_requantize),
     .fallback = "false",
     .is_local = true,
     .help = "quantise again what is quantised in the source"},
    {.name = "backend",
     .type = RP_OPTION_WORD,
     AT(backend),
     .fallback = "auto",
     .words = rp_backend_words,
     .is_local = true,
     .help = "where the work is done; auto: cuda if every rank has a GPU, else cpu"},
    {.name = "output",
     .type = RP_OPTION_SECTION,
     AT(output),
     .rows = output_rows,
     .is_required = true,
     .help = "what is written and where"},
    {.name = "calibration",
     .type = RP_OPTION_SECTION,
     AT(calibration),
     .rows = calibration_rows,
     .help = "text that shows what activations look like"},
    {.name = "recipe",
     .type = RP_OPTION_VARIANTS,
     AT(recipe),
     .rows = method_rows,
     .item_bytes = sizeof(rp_recipe_step),
     .help = "methods; the first that targets a linear has it; none: a conversion to GGUF or "
             "safetensors"},
    {.name = "evaluate",
     .type = RP_OPTION_SECTION,
     AT(evaluate),
     .rows = evaluate_rows,
     .help = "measurement of the written files"},
    {.name = "gates",
     .type = RP_OPTION_VARIANTS,
     AT(gates),
     .rows = gate_rows,
     .item_bytes = sizeof(rp_gate),
     .is_local = true,
     .help = "limits; a job beyond one keeps its files and exits with 1"},
    {.name = "cluster",
     .type = RP_OPTION_SECTION,
     AT(cluster),
     .rows = cluster_rows,
     .help = "how the work is spread and kept safe"},
    END_ROW,
};
#undef STRUCT

const rp_option *rp_job_keys(void)
{
    return job_rows;
}

const char *rp_method_name(int64_t method)
{
    return method_rows[method].name;
}

const char *rp_format_kind_name(int64_t kind)
{
    return format_rows[kind].name;
}

const char *rp_gate_name(int64_t kind)
{
    return gate_rows[kind].name;
}

void rp_preset_scheme(int64_t preset, rp_step_scheme *out)
{
    out->bits = preset % 16;
    out->is_symmetric = preset < 16;
    out->group_size = out->bits == 8 ? -1 : 128;
}

unsigned rp_metrics_of(const rp_string_list *names)
{
    unsigned metrics = 0;

    for (int64_t i = 0; i < names->n; i++) {
        for (const rp_option_word *w = metric_words; w->word != NULL; w++) {
            metrics |= strcmp(w->word, names->items[i]) == 0 ? (unsigned)w->value : 0;
        }
    }
    return metrics;
}
