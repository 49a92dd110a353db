/* The table of subcommands and their options. */
#include "jobs/cmd.h"

#include "jobs/backend.h"
#include "jobs/job.h"
#include "kernels/exec.h"

#define END_ROW                                                                                    \
    {                                                                                              \
        .name = NULL                                                                               \
    }
#define AT(member) .offset = offsetof(rp_cli, member)

static const rp_option_word auto_words[] = {{"auto", 0}, {NULL, 0}};

#define HELP_ROW                                                                                   \
    {                                                                                              \
        .name = "help", .type = RP_OPTION_FLAG, AT(is_help), .help = "print this help"             \
    }
#define JSON_ROW                                                                                   \
    {                                                                                              \
        .name = "json", .type = RP_OPTION_FLAG, AT(is_json), .help = "print the result as JSON"    \
    }
#define QUIET_ROW                                                                                  \
    {                                                                                              \
        .name = "quiet", .type = RP_OPTION_FLAG, AT(is_quiet),                                     \
        .help = "print errors alone: no progress, no table"                                        \
    }
#define THREADS_ROW                                                                                \
    {                                                                                              \
        .name = "threads", .type = RP_OPTION_INT, AT(threads), .fallback = "auto", .min = 1,       \
        .max = 4096, .words = auto_words, .arg = "N",                                              \
        .help = "threads of a rank; auto: the node's cores shared by its ranks"                    \
    }

static const rp_option_word all_words[] = {{"all", 0}, {NULL, 0}};
static const rp_option_word variant_words[] = {
    {"plain", RP_WINDOWS_PLAIN}, {"llama_cpp", RP_WINDOWS_LLAMA_CPP}, {NULL, 0}};

static const rp_option eval_options[] = {
    {.name = "text",
     .type = RP_OPTION_PATH,
     AT(text),
     .is_required = true,
     .arg = "FILE",
     .help = "UTF-8 text to measure on"},
    {.name = "base",
     .type = RP_OPTION_PATH,
     AT(base),
     .arg = "PATH",
     .help = "unquantised model: KL divergence and top-1 agreement with it"},
    {.name = "context",
     .type = RP_OPTION_INT,
     AT(context),
     .fallback = "auto",
     .min = 2,
     .max = 1 << 20,
     .words = auto_words,
     .arg = "N",
     .help = "tokens of a window; auto: 2048 or the model's limit if that is less"},
    {.name = "max_windows",
     .type = RP_OPTION_INT,
     AT(max_windows),
     .fallback = "all",
     .min = 1,
     .max = 1e9,
     .words = all_words,
     .arg = "N",
     .help = "stop after so many windows"},
    {.name = "variant",
     .type = RP_OPTION_WORD,
     AT(variant),
     .fallback = "plain",
     .words = variant_words,
     .arg = "NAME",
     .help = "plain scores all of a window; llama_cpp its second half, as llama-perplexity"},
    {.name = "add_bos",
     .type = RP_OPTION_FLAG,
     AT(add_bos),
     .help = "put the model's BOS before every window"},
    {.name = "tokenizer",
     .type = RP_OPTION_PATH,
     AT(tokenizer),
     .arg = "PATH",
     .help = "folder or GGUF file with the tokenizer; else the base model's, else the model's"},
    {.name = "backend",
     .type = RP_OPTION_WORD,
     AT(backend),
     .fallback = "auto",
     .words = rp_backend_words,
     .arg = "NAME",
     .help = "cpu, or cuda, whose products are bf16; auto: cuda if every rank has a GPU"},
    THREADS_ROW,
    QUIET_ROW,
    JSON_ROW,
    HELP_ROW,
    END_ROW,
};

static const rp_option verify_options[] = {JSON_ROW, HELP_ROW, END_ROW};

static const rp_option imatrix_options[] = {JSON_ROW, HELP_ROW, END_ROW};

static const rp_option inspect_options[] = {JSON_ROW, HELP_ROW, END_ROW};

static const rp_option tokenize_options[] = {
    {.name = "model",
     .type = RP_OPTION_PATH,
     AT(model),
     .is_required = true,
     .arg = "PATH",
     .help = "folder with tokenizer files, or a GGUF file"},
    {.name = "text",
     .type = RP_OPTION_PATH,
     AT(text),
     .arg = "FILE",
     .help = "read the text from a file"},
    {.name = "decode",
     .type = RP_OPTION_FLAG,
     AT(is_decode),
     .help = "the text is a list of ids; print what they say"},
    {.name = "special",
     .type = RP_OPTION_FLAG,
     AT(is_special),
     .help = "add the special tokens that the file's post-processor says"},
    JSON_ROW,
    HELP_ROW,
    END_ROW,
};

static const rp_option_word products_words[] = {
    {"auto", RP_PRODUCTS_AUTO}, {"f32", RP_PRODUCTS_F32}, {"bf16", RP_PRODUCTS_BF16}, {NULL, 0}};
static const rp_option_word ranks_words[] = {{"here", 0}, {NULL, 0}};
static const rp_option_word shapes_words[] = {{"several", 0}, {NULL, 0}};

#define SIZE_ROW(letter, shown)                                                                    \
    {                                                                                              \
        .name = #letter, .type = RP_OPTION_INT, AT(letter), .fallback = "several", .min = 1,       \
        .max = 1 << 20, .words = shapes_words, .arg = "N", .help = (shown)                         \
    }
static const rp_option bench_gemm_options[] = {
    SIZE_ROW(m, "rows of the product"),
    SIZE_ROW(n, "columns of the product, and width of the Gram matrix"),
    SIZE_ROW(k, "inner size of the product"),
    THREADS_ROW,
    {.name = "products",
     .type = RP_OPTION_WORD,
     AT(products),
     .fallback = "auto",
     .words = products_words,
     .arg = "TYPE",
     .help = "precision; auto: each that this machine has"},
    JSON_ROW,
    HELP_ROW,
    END_ROW,
};

static const rp_option run_options[] = {
    {.name = "force_unlock",
     .type = RP_OPTION_FLAG,
     AT(is_forced),
     .help = "take the output folder even if another job seems to work there"},
    QUIET_ROW,
    HELP_ROW,
    END_ROW,
};
static const rp_option plan_options[] = {
    {.name = "ranks",
     .type = RP_OPTION_INT,
     AT(ranks),
     .fallback = "here",
     .min = 1,
     .max = 1 << 20,
     .words = ranks_words,
     .arg = "N",
     .help = "plan for so many ranks; here: those of this launch"},
    JSON_ROW,
    HELP_ROW,
    END_ROW,
};
static const rp_option status_options[] = {
    {.name = "watch",
     .type = RP_OPTION_FLAG,
     AT(is_watching),
     .help = "print it again and again, until the job is done"},
    {.name = "every",
     .type = RP_OPTION_SECONDS,
     AT(watch_seconds),
     .fallback = "5s",
     .min = 0.1,
     .max = 86400,
     .arg = "TIME",
     .help = "time from one print of --watch to the next"},
    JSON_ROW,
    HELP_ROW,
    END_ROW,
};
static const rp_option submit_options[] = {
    {.name = "dry_run",
     .type = RP_OPTION_FLAG,
     AT(is_dry_run),
     .help = "check the job and print the script; write and submit nothing"},
    {.name = "array",
     .type = RP_OPTION_PATH,
     AT(sweep),
     .arg = "SWEEP.yaml",
     .help =
         "one job for each entry of a list of {name: NAME, KEY: VALUE, ...}, in output.dir/NAME"},
    {.name = "dependency",
     .type = RP_OPTION_STRING,
     AT(dependency),
     .arg = "SPEC",
     .help = "when the job may start, as sbatch takes it: afterok:123"},
    {.name = "quiet",
     .type = RP_OPTION_FLAG,
     AT(is_quiet),
     .help = "print the ids of the jobs alone, not the scripts"},
    HELP_ROW,
    END_ROW,
};

static const rp_command commands[] = {
    {.name = "plan",
     .summary = "what a job would hold, move and write, without doing it",
     .operands = "JOB.yaml [KEY=VALUE]...",
     .min_args = 1,
     .max_args = 1 << 20,
     .options = plan_options,
     .run = rp_cmd_plan,
     .description = "Reads headers alone. Prints the memory of a rank, the disk, the work and an "
                    "estimate of the time; refuses what cannot fit or cannot be stored."},
    {.name = "run",
     .summary = "run a job from start to report, or go on with it",
     .operands = "JOB.yaml [KEY=VALUE]...",
     .min_args = 1,
     .max_args = 1 << 20,
     .options = run_options,
     .is_stoppable = true,
     .run = rp_cmd_run,
     .description = "Calibrates, solves, writes, verifies and evaluates. A folder that this same "
                    "job started is gone on with, on any number of ranks."},
    {.name = "resume",
     .summary = "go on with a stopped job",
     .operands = "OUT",
     .min_args = 1,
     .max_args = 1,
     .options = run_options,
     .is_stoppable = true,
     .run = rp_cmd_resume,
     .description = "Goes on from the last commit of the job that the folder OUT holds, on any "
                    "number of ranks; the output is the same, byte for byte."},
    {.name = "status",
     .summary = "how far a job is",
     .operands = "OUT",
     .min_args = 1,
     .max_args = 1,
     .is_local = true,
     .options = status_options,
     .run = rp_cmd_status,
     .description =
         "Reads the files of the folder OUT alone: works while the job runs, from any "
         "machine that sees the folder. Says stage, layer, rate and time left, how often "
         "the job was stopped, its numbers in Slurm and its last message."},
    {.name = "submit",
     .summary = "give a job to Slurm, which goes on with it until it is done",
     .operands = "JOB.yaml [KEY=VALUE]...",
     .min_args = 1,
     .max_args = 1 << 20,
     .options = submit_options,
     .run = rp_cmd_submit,
     .description = "Checks the job as plan does, writes it and the batch script into its output "
                    "folder, submits the script and prints the id of the job, last. The script "
                    "requeues itself until the job is done; cluster.slurm says what it asks for."},
    {.name = "eval",
     .summary = "perplexity of a model, and how near it is to another",
     .operands = "MODEL",
     .min_args = 1,
     .max_args = 1,
     .options = eval_options,
     .run = rp_cmd_eval,
     .description =
         "MODEL is a folder (plain, GPTQ or compressed-tensors) or a GGUF file. The text "
         "is tokenised once and cut into windows that do not overlap; ranks share them."},
    {.name = "verify",
     .summary = "read outputs back and check them",
     .operands = "PATH",
     .min_args = 1,
     .max_args = 1,
     .options = verify_options,
     .run = rp_cmd_verify,
     .description = "PATH is the output folder of a job, whose outputs are all checked, or one "
                    "model: a folder or a GGUF file. Every value of every tensor is decoded; files "
                    "must be complete and values finite. Ranks share the tensors."},
    {.name = "inspect",
     .summary = "what is in a safetensors, GGUF or checkpoint file, or in a folder of them",
     .operands = "PATH",
     .min_args = 1,
     .max_args = 1,
     .is_local = true,
     .options = inspect_options,
     .run = rp_cmd_inspect,
     .description = "Reads headers alone and checks them: tensors with type, shape and size, "
                    "metadata, totals."},
    {.name = "imatrix",
     .summary = "statistics of an importance matrix, or several merged into one",
     .operands = "show FILE | merge OUT IN...",
     .min_args = 2,
     .max_args = 1 << 20,
     .is_local = true,
     .options = imatrix_options,
     .run = rp_cmd_imatrix,
     .description = "Reads the files of llama-imatrix, GGUF or the older .dat, and those that a "
                    "job's output.imatrix names. show prints a line a tensor; merge adds the sums "
                    "and counts of all IN into the new file OUT, a .dat when its name ends so, "
                    "which llama-quantize --imatrix takes."},
    {.name = "tokenize",
     .summary = "token ids of a text, or the text of ids",
     .operands = "[TEXT]...",
     .max_args = 1 << 20,
     .is_local = true,
     .options = tokenize_options,
     .run = rp_cmd_tokenize,
     .description = "Prints the ids that calibration and evaluation would see. The text is the "
                    "operands joined by blanks, a file, or standard input."},
    {.name = "bench-gemm",
     .summary = "rates of matrix products with the linked libraries on this machine",
     .operands = "",
     .is_local = true,
     .options = bench_gemm_options,
     .run = rp_cmd_bench_gemm,
     .description = "Measures the library's own products, the program's tiled ones, Gram matrices, "
                    "Cholesky factors and memory copies. Nothing is chosen by these numbers."},
    {.name = NULL},
};

const rp_command *rp_commands(void)
{
    return commands;
}
