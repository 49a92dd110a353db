/* rankpress eval: perplexity of any model that the program reads, and with a base model how far its
 * predictions are from that one's. Ranks share the windows. */
#include "jobs/cmd.h"

#include "base/clock.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/backend.h"
#include "jobs/evaluate.h"
#include "jobs/job.h"
#include "jobs/job_folder.h"
#include "jobs/print.h"
#include "jobs/session.h"
#include "jobs/tokenizer_of.h"
#include "model/weights.h"
#include "mpi/comm_gpu.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_CONTEXT 2048

typedef struct eval_inputs {
    rp_weights *model, *base; /* base NULL: none */
    rp_tokenizer *tokenizer;
    rp_exec *exec;
    rp_gpu *gpu; /* NULL: the CPU computes */
    int32_t *ids;
    int64_t n_ids;
} eval_inputs;

static void close_inputs(eval_inputs *in)
{
    free(in->ids);
    rp_exec_destroy(&in->exec);
    rp_gpu_destroy(&in->gpu);
    rp_tokenizer_destroy(&in->tokenizer);
    rp_weights_close(&in->base);
    rp_weights_close(&in->model);
}

/* The tokenizer asked for, else the base model's, else the model's own. */
static const char *tokenizer_path(const rp_cli *cli)
{
    if (cli->tokenizer != NULL) {
        return cli->tokenizer;
    }
    return cli->base != NULL ? cli->base : cli->args[0];
}

static rp_status open_inputs(eval_inputs *in, const rp_cli *cli)
{
    rp_status st = RP_OK;
    int64_t vocab = 0;

    RP_TRY(rp_job_folder_refuse(cli->args[0]));
    RP_TRY(rp_weights_open(&in->model, cli->args[0]));
    vocab = rp_weights_config(in->model)->vocab_size;
    if (cli->base != NULL) {
        RP_TRY(rp_job_folder_refuse(cli->base));
        RP_TRY(rp_weights_open(&in->base, cli->base));
        if (rp_weights_config(in->base)->vocab_size != vocab) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: a vocabulary of %lld, but %s has %lld", cli->base,
                         (long long)rp_weights_config(in->base)->vocab_size, cli->args[0],
                         (long long)vocab);
            goto out;
        }
    }
    RP_TRY(rp_tokenizer_of(&in->tokenizer, tokenizer_path(cli)));
    RP_TRY(rp_tokenize_file(&in->ids, &in->n_ids, in->tokenizer, cli->text, vocab));
    RP_TRY(rp_exec_create(&in->exec, rp_session_threads(cli->comm, cli->threads), RP_PRODUCTS_F32));
out:
    return st;
}

static rp_eval_opts opts_of(const rp_cli *cli, const rp_model_config *config)
{
    rp_eval_opts opts = rp_eval_opts_default();

    opts.context = cli->context > 0 ? cli->context : RP_MIN(DEFAULT_CONTEXT, config->max_position);
    opts.style = cli->variant == RP_WINDOWS_LLAMA_CPP ? RP_EVAL_LLAMA_CPP : RP_EVAL_WINDOWS;
    opts.add_bos = cli->add_bos;
    opts.bos_id = config->bos_id;
    opts.max_windows = cli->max_windows;
    return opts;
}

/* Rotary embeddings of some kinds are made to go on beyond the limit: it is not refused. */
static void warn_of_context(const rp_cli *cli, const rp_eval_opts *opts,
                            const rp_model_config *config)
{
    if (opts->context > config->max_position && rp_comm_rank(cli->comm) == 0 && !cli->is_quiet) {
        (void)fprintf(stderr, "rankpress: warning: --context is %lld, the model's limit is %lld\n",
                      (long long)opts->context, (long long)config->max_position);
    }
}

/* Collective. The evaluator's operations and where they run. */
static rp_status open_backend(rp_evaluator *e, eval_inputs *in, const rp_cli *cli,
                              rp_backend backend)
{
    rp_status st = RP_OK;
    const bool has_base = in->base != NULL;
    const rp_model_config *config = rp_weights_config(in->model);
    size_t nbytes = 0;
    int64_t n = 0;

    e->ops = rp_kernels_cpu();
    e->exec = in->exec;
    st = rp_eval_count_windows(&n, &e->opts, e->n_ids);
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", cli->text);
    }
    RP_TRY(rp_agree(cli->comm, st));
    if (backend == RP_BACKEND_CPU) {
        return RP_OK;
    }
    nbytes = rp_eval_bytes(config, has_base, &e->opts, true, 1, n).place;
    if (has_base) {
        config = rp_weights_config(in->base);
        nbytes = RP_MAX(nbytes, rp_eval_bytes(config, true, &e->opts, true, 1, n).place);
    }
    RP_TRY(rp_backend_open_gpu(&in->gpu, cli->comm, rp_backend_arena_bytes(nbytes),
                               e->progress != NULL));
    e->ops = rp_kernels_cuda();
    in->exec->gpu = in->gpu;
out:
    return st;
}

static rp_status print_json(const rp_cli *cli, const eval_inputs *in, const rp_evaluator *e,
                            const rp_eval_result *r, double seconds)
{
    rp_status st = RP_OK;
    json_t *root = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:f, s:i}", "model", cli->args[0], "text",
        cli->text, "tokens", (json_int_t)in->n_ids, "context", (json_int_t)e->opts.context,
        "windows", (json_int_t)r->n_windows, "scored_tokens", (json_int_t)r->n_scored, "nll",
        r->nll, "perplexity", r->perplexity, "bytes", (json_int_t)rp_weights_file_bytes(in->model),
        "seconds", seconds, "ranks", rp_comm_nranks(cli->comm));

    RP_TRY(rp_json_made(root));
    if (in->base != NULL &&
        (json_object_set_new(root, "base", json_string(cli->base)) != 0 ||
         json_object_set_new(root, "kl_divergence", json_real(r->kl)) != 0 ||
         json_object_set_new(root, "top1_agreement", json_real(r->top1)) != 0)) {
        RP_TRY(rp_json_made(NULL));
    }
    RP_TRY(rp_print_json(root));
out:
    json_decref(root);
    return st;
}

static void print_table(const rp_cli *cli, const eval_inputs *in, const rp_evaluator *e,
                        const rp_eval_result *r, double seconds)
{
    const int nranks = rp_comm_nranks(cli->comm);
    char size[RP_SIZE_TEXT_BYTES];

    (void)printf("model            %s (%s)\n", cli->args[0],
                 rp_print_size(size, (double)rp_weights_file_bytes(in->model)));
    (void)printf("text             %s (%lld tokens, %lld window%s of %lld)\n", cli->text,
                 (long long)in->n_ids, (long long)r->n_windows, r->n_windows == 1 ? "" : "s",
                 (long long)e->opts.context);
    (void)printf("perplexity       %.4f (%.5f nats a token)\n", r->perplexity, r->nll);
    if (in->base != NULL) {
        (void)printf("KL divergence    %.6f nats a token, to %s\n", r->kl, cli->base);
        (void)printf("top-1 agreement  %.2f %%\n", 100 * r->top1);
    }
    (void)printf("seconds          %.1f on %d rank%s\n", seconds, nranks, nranks == 1 ? "" : "s");
}

rp_status rp_cmd_eval(const rp_cli *cli)
{
    rp_status st = RP_OK;
    const double start = rp_clock_seconds();
    const bool is_first = rp_comm_rank(cli->comm) == 0;
    const rp_backend backend = rp_backend_choose(cli->comm, (rp_backend)cli->backend);
    eval_inputs in = {0};
    rp_evaluator e = {.comm = cli->comm};
    rp_eval_result result;

    if (backend == RP_BACKEND_CUDA) {
        rp_comm_open_gpu_ahead(cli->comm);
    }
    RP_TRY(rp_agree(cli->comm, open_inputs(&in, cli)));
    e.opts = opts_of(cli, rp_weights_config(in.model));
    warn_of_context(cli, &e.opts, rp_weights_config(in.model));
    e.ids = in.ids;
    e.n_ids = in.n_ids;
    e.progress = is_first && !cli->is_quiet ? stderr : NULL;
    RP_TRY(open_backend(&e, &in, cli, backend));
    RP_TRY(rp_evaluate(&result, &e, in.model, in.base, "evaluate"));
    if (is_first && cli->is_json) {
        st = print_json(cli, &in, &e, &result, rp_clock_seconds() - start);
    } else if (is_first) {
        print_table(cli, &in, &e, &result, rp_clock_seconds() - start);
    }
    RP_TRY(rp_agree(cli->comm, st));
out:
    close_inputs(&in);
    return st;
}
