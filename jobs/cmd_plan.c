/* rankpress plan: what a job would hold, move, write and take, without doing any of it. */
#include "jobs/cmd.h"

#include <stdio.h>

#include "base/mem.h"
#include "formats/json.h"
#include "jobs/plan.h"
#include "jobs/print.h"
#include "jobs/size_target.h"
#include "jobs/traffic_plan.h"
#include "kernels/cpu/gemm_bench.h"

#define BENCH_SECONDS 0.2

/* Seconds of calibration and solving at the rate that the library reaches here just now. */
static rp_status estimate(double *seconds, const rp_plan *plan, const rp_session *s)
{
    rp_status st = RP_OK;
    const rp_bench_shape shape = {2048, RP_MIN(s->config->intermediate_size, 4096),
                                  RP_MIN(s->config->hidden_size, 4096)};
    double rate = 0;

    *seconds = 0;
    if (!plan->needs_calibration) {
        return RP_OK;
    }
    RP_TRY(rp_gemm_bench(&rate, s->exec, RP_BENCH_SGEMM, &shape, BENCH_SECONDS));
    /* The factor is one rank's work in f64; the rest is shared. */
    *seconds = ((plan->forward_flop + plan->gram_flop + plan->solve_flop + plan->measure_flop) /
                    plan->nranks +
                2 * plan->factor_flop) /
               (rate * 1e9);
out:
    return st;
}

/* What each tensor of a GGUF output is stored as, in the order of the file. */
static json_t *tensors_json(const rp_gguf_types *types)
{
    json_t *tensors = json_array();

    for (int64_t i = 0; i < types->n; i++) {
        const rp_gguf_mix_tensor *t = &types->items[i];
        (void)json_array_append_new(tensors, json_pack("{s:s, s:s, s:b}", "name", t->name, "type",
                                                       t->type->name, "fallback", t->is_fallback));
    }
    return tensors;
}

static json_t *outputs_json(const rp_plan *plan, const rp_session *s, rp_store *const *stores)
{
    json_t *outputs = json_array();

    for (int64_t k = 0; k < s->job->output.formats.n; k++) {
        const rp_gguf_types *types = &s->linears.types[k];
        json_t *output =
            json_pack("{s:s, s:I, s:I}", "path", stores[k]->path, "bytes",
                      (json_int_t)plan->output_bytes[k], "files", (json_int_t)stores[k]->n_files);
        if (types->n > 0) {
            (void)json_object_set_new(output, "types", rp_gguf_types_count(types));
            (void)json_object_set_new(output, "types_are_measured",
                                      json_boolean(rp_size_target_bytes(s, k) > 0));
            (void)json_object_set_new(output, "tensors", tensors_json(types));
        }
        (void)json_array_append_new(outputs, output);
    }
    return outputs;
}

/* Of the host and of its GPU. */
static json_int_t both(rp_place_bytes bytes)
{
    return (json_int_t)(bytes.host + bytes.place);
}

static rp_status print_as_json(const rp_plan *plan, const rp_traffic_plan *traffic,
                               const rp_session *s, rp_store *const *stores, double seconds)
{
    rp_status st = RP_OK;
    json_t *root = json_pack(
        "{s:i, s:i, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}, s:o, s:I, s:I, "
        "s:o, s:{s:f, s:f, s:f, s:f, s:f}, s:I, s:f, s:b}",
        "ranks", plan->nranks, "threads", plan->nthreads, "memory_per_rank_bytes", "total",
        (json_int_t)plan->memory_bytes, "base", (json_int_t)plan->base_bytes, "activations",
        both(plan->calibrate.activations), "layer", both(plan->calibrate.layer), "executor",
        both(plan->calibrate.executor), "solver", both(plan->calibrate.solver), "checkpoint",
        both(plan->calibrate.checkpoint), "measure", (json_int_t)plan->measure_bytes_memory,
        "write", (json_int_t)plan->write_bytes_memory, "evaluate", both(plan->evaluate), "gpu",
        (json_int_t)plan->place_bytes, "gpu_room",
        plan->gpu_room.is_known ? json_integer((json_int_t)plan->gpu_room.arena_bytes)
                                : json_null(),
        "outputs", outputs_json(plan, s, stores), "checkpoint_bytes",
        (json_int_t)plan->checkpoint_bytes, "disk_bytes", (json_int_t)plan->disk_bytes, "traffic",
        rp_traffic_plan_json(traffic), "flop", "forward", plan->forward_flop, "gram",
        plan->gram_flop, "factor", plan->factor_flop, "solve", plan->solve_flop, "measure",
        plan->measure_flop, "blocks", (json_int_t)plan->blocks.n_blocks, "seconds_estimate",
        seconds, "activations_are_streamed", plan->streams_activations);

    RP_TRY(rp_json_made(root));
    RP_TRY(rp_print_json(root));
out:
    json_decref(root);
    return st;
}

static void line(const char *what, double nbytes)
{
    char text[RP_SIZE_TEXT_BYTES];

    (void)printf("  %-34s %12s\n", what, rp_print_size(text, nbytes));
}

/* "Q4_K 37, F32 13", and how many have another type than the mix means for their columns. */
static void print_types(const rp_gguf_types *types)
{
    json_t *counts = rp_gguf_types_count(types);
    const char *name = NULL;
    const json_t *count = NULL;
    const char *join = "    ";
    int64_t n_fallbacks = 0;

    json_object_foreach(counts, name, count)
    {
        (void)printf("%s%s %lld", join, name, (long long)json_integer_value(count));
        join = ", ";
    }
    json_decref(counts);
    (void)printf("\n");
    for (int64_t i = 0; i < types->n; i++) {
        n_fallbacks += types->items[i].is_fallback;
    }
    if (n_fallbacks > 0) {
        (void)printf("    %lld of %lld tensors in a fallback type: columns do not fill blocks\n",
                     (long long)n_fallbacks, (long long)types->n);
    }
}

static void print_traffic(const rp_traffic_plan *traffic)
{
    const rp_traffic layer = rp_traffic_plan_layer(traffic);
    const rp_traffic total = rp_traffic_plan_total(traffic);
    char of_layer[RP_SIZE_TEXT_BYTES];
    char of_all[RP_SIZE_TEXT_BYTES];

    (void)printf("moved by the rank that moves most%*s%12s\n", 15, "a layer", "in all");
    (void)printf("  %-34s %12lld%12lld\n", "collective calls", (long long)layer.calls,
                 (long long)total.calls);
    (void)printf("  %-34s %12s%12s\n", "sent", rp_print_size(of_layer, (double)layer.sent_bytes),
                 rp_print_size(of_all, (double)total.sent_bytes));
    (void)printf("  %-34s %12s%12s\n", "received",
                 rp_print_size(of_layer, (double)layer.received_bytes),
                 rp_print_size(of_all, (double)total.received_bytes));
}

static void print_for_people(const rp_plan *plan, const rp_traffic_plan *traffic,
                             const rp_session *s, rp_store *const *stores, double seconds)
{
    (void)printf("%s: %s, %lld layers, %lld wide\n", s->job->model, s->config->arch->model_type,
                 (long long)s->config->n_layers, (long long)s->config->hidden_size);
    (void)printf("memory of a rank (ranks: %d, threads of each: %d)\n", plan->nranks,
                 plan->nthreads);
    line("program and libraries", (double)plan->base_bytes);
    if (plan->needs_calibration) {
        line(plan->streams_activations ? "activations, streamed to its GPU" : "activations",
             (double)both(plan->calibrate.activations));
        line("a layer's weights", (double)both(plan->calibrate.layer));
        line("forward pass", (double)both(plan->calibrate.executor));
        line("statistics and solving", (double)both(plan->calibrate.solver));
        line("on the way to checkpoints", (double)both(plan->calibrate.checkpoint));
    }
    if (plan->measure_bytes_memory > 0) {
        line("measuring types, at another time", (double)plan->measure_bytes_memory);
    }
    line("writing, at another time", (double)plan->write_bytes_memory);
    line("evaluating, at another time", (double)both(plan->evaluate));
    line("peak", (double)plan->memory_bytes);
    if (plan->place_bytes > 0) {
        line("peak of its GPU", (double)(plan->place_bytes + plan->gpu_room.own_bytes));
    }
    if (plan->place_bytes > 0 && plan->gpu_room.is_known) {
        line("free on its GPU", (double)(plan->gpu_room.arena_bytes + plan->gpu_room.own_bytes));
    }
    (void)printf("disk\n");
    for (int64_t k = 0; k < s->job->output.formats.n; k++) {
        line(stores[k]->path, (double)plan->output_bytes[k]);
        if (rp_size_target_bytes(s, k) > 0) {
            (void)printf("    at most; types are chosen by measurement, where they beat those of "
                         "%s:\n",
                         s->linears.types[k].mix->name);
        }
        if (s->linears.types[k].n > 0) {
            print_types(&s->linears.types[k]);
        }
    }
    if (plan->needs_calibration) {
        line("checkpoint", (double)plan->checkpoint_bytes);
        (void)printf("work\n");
        (void)printf("  %-34s %9lld x %lld tokens in %lld blocks\n", "calibration",
                     (long long)plan->blocks.n_seqs, (long long)plan->blocks.seq_len,
                     (long long)plan->blocks.n_blocks);
        if (plan->measure_flop > 0) {
            (void)printf("  %-34s %9.3f TFLOP\n", "measuring types", plan->measure_flop / 1e12);
        }
        (void)printf("  %-34s %9.3f TFLOP\n", "forward", plan->forward_flop / 1e12);
        (void)printf("  %-34s %9.3f TFLOP\n", "Gram matrices", plan->gram_flop / 1e12);
        (void)printf("  %-34s %9.3f TFLOP\n", "factors and solving",
                     (plan->factor_flop + plan->solve_flop) / 1e12);
        (void)printf("  %-34s %9.0f s at this machine's rate\n", "calibrate and solve, at least",
                     seconds);
        print_traffic(traffic);
    }
}

rp_status rp_cmd_plan(const rp_cli *cli)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;
    rp_planning p = {.stores = {NULL}};
    rp_traffic_plan traffic = {0};
    double seconds = 0;
    const int nranks = cli->ranks > 0 ? (int)cli->ranks : rp_comm_nranks(cli->comm);

    RP_TRY(rp_agree(cli->comm, rp_job_load(&job, cli->args[0], cli->args + 1, cli->n_args - 1)));
    RP_TRY(rp_planning_open(&p, cli, job, nranks));
    RP_TRY(rp_agree(cli->comm, rp_traffic_plan_create(&traffic, &p.session, nranks)));
    RP_TRY(rp_agree(cli->comm, estimate(&seconds, &p.plan, &p.session)));
    if (rp_comm_rank(cli->comm) == 0) {
        if (cli->is_json) {
            st = print_as_json(&p.plan, &traffic, &p.session, p.stores, seconds);
        } else {
            print_for_people(&p.plan, &traffic, &p.session, p.stores, seconds);
        }
    }
    RP_TRY(rp_agree(cli->comm, st));
    RP_TRY(rp_agree(cli->comm, rp_plan_check(&p.plan, &p.session)));
    RP_TRY(rp_agree(cli->comm, rp_plan_check_gpu(&p.plan)));
out:
    rp_traffic_plan_destroy(&traffic);
    rp_planning_close(&p);
    return st;
}
