/* rankpress verify: reads models back, every value of every tensor. What the files' readers check
 * is checked (index complete, no tensor twice, shapes, finite scales, zero points in range), and
 * that every decoded value is finite. Ranks share the tensors. */
#include "jobs/cmd.h"

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/job.h"
#include "jobs/job_folder.h"
#include "jobs/print.h"
#include "jobs/run.h"
#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values decoded at a time. */
#define CHUNK_ELEMS ((int64_t)4 << 20)

static rp_status verify_tensor(const rp_weights *weights, const rp_weight_info *info)
{
    rp_status st = RP_OK;
    const int64_t rows = info->shape[0];
    const int64_t cols = info->ndim > 1 ? info->shape[1] : 1;
    const int64_t step = RP_MIN(RP_MAX(CHUNK_ELEMS / RP_MAX(cols, 1), 1), RP_MAX(rows, 1));
    float *values = NULL;

    RP_TRY(rp_alloc_array(&values, (size_t)(step * cols), sizeof(*values)));
    for (int64_t row = 0; row < rows; row += step) {
        RP_TRY(rp_weights_read_f32(weights, info, row, RP_MIN(step, rows - row), values));
    }
out:
    free(values);
    return st;
}

/* This rank's tensors of one model. */
static rp_status verify_tensors(const rp_weights *weights, const rp_comm *comm)
{
    rp_status st = RP_OK;

    for (int64_t i = rp_comm_rank(comm); i < rp_weights_count(weights); i += rp_comm_nranks(comm)) {
        RP_TRY(verify_tensor(weights, rp_weights_at(weights, i)));
    }
out:
    return st;
}

/* How many tensors are stored in which way: {"BF16": 17, "gptq int4": 56}. */
static rp_status count_kinds(json_t **out, const rp_weights *weights)
{
    rp_status st = RP_OK;
    json_t *kinds = json_object();

    RP_TRY(rp_json_made(kinds));
    for (int64_t i = 0; i < rp_weights_count(weights); i++) {
        const char *kind = rp_weights_at(weights, i)->stored_as;
        const json_int_t n = json_integer_value(json_object_get(kinds, kind));
        if (json_object_set_new(kinds, kind, json_integer(n + 1)) != 0) {
            RP_TRY(rp_json_made(NULL));
        }
    }
    *out = kinds;
    kinds = NULL;
out:
    json_decref(kinds);
    return st;
}

static void print_model(const char *path, const rp_weights *weights, const json_t *kinds)
{
    char size[RP_SIZE_TEXT_BYTES];
    const char *kind = NULL;
    json_t *count = NULL;

    (void)printf("%s: good, %s, %lld tensors:", path,
                 rp_print_size(size, (double)rp_weights_file_bytes(weights)),
                 (long long)rp_weights_count(weights));
    json_object_foreach((json_t *)kinds, kind, count)
    {
        (void)printf(" %" JSON_INTEGER_FORMAT " %s", json_integer_value(count), kind);
    }
    (void)putchar('\n');
}

/* Collective. Adds one object to `models`, or fails on all ranks. */
static rp_status verify_model(json_t *models, const rp_cli *cli, const char *path)
{
    rp_status st = RP_OK;
    rp_weights *weights = NULL;
    json_t *kinds = NULL;
    json_t *entry = NULL;

    RP_TRY(rp_agree(cli->comm, rp_weights_open(&weights, path)));
    RP_TRY(rp_agree(cli->comm, verify_tensors(weights, cli->comm)));
    RP_TRY(rp_agree(cli->comm, count_kinds(&kinds, weights)));
    entry = json_pack("{s:s, s:b, s:I, s:I, s:O}", "path", path, "is_good", 1, "bytes",
                      (json_int_t)rp_weights_file_bytes(weights), "tensors",
                      (json_int_t)rp_weights_count(weights), "stored_as", kinds);
    st = rp_json_made(entry);
    if (st == RP_OK && json_array_append(models, entry) != 0) {
        st = rp_json_made(NULL);
    }
    RP_TRY(rp_agree(cli->comm, st));
    if (!cli->is_json && rp_comm_rank(cli->comm) == 0) {
        print_model(path, weights, kinds);
    }
out:
    json_decref(entry);
    json_decref(kinds);
    rp_weights_close(&weights);
    return st;
}

static rp_status find_output(char **path, const char *dir, const char *name)
{
    rp_status st = RP_OK;

    RP_TRY(rp_job_folder_find_output(path, dir, name));
    if (*path == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s/%s: not there: the job has not finished it", dir, name);
    }
out:
    return st;
}

/* Collective. Every output of the job that the folder holds. */
static rp_status verify_outputs(json_t *models, const rp_cli *cli, const char *job_path)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;
    char *path = NULL;

    RP_TRY(rp_agree(cli->comm, rp_job_load(&job, job_path, NULL, 0)));
    for (int64_t i = 0; i < job->output.formats.n; i++) {
        free(path);
        path = NULL;
        st = find_output(&path, cli->args[0], job->output.formats.items[i].name);
        RP_TRY(rp_agree(cli->comm, st));
        RP_TRY(verify_model(models, cli, path));
    }
out:
    free(path);
    rp_job_destroy(&job);
    return st;
}

rp_status rp_cmd_verify(const rp_cli *cli)
{
    rp_status st = RP_OK;
    const char *path = cli->args[0];
    char *job_path = NULL;
    json_t *models = json_array();
    json_t *root = NULL;

    st = rp_json_made(models);
    if (st == RP_OK) {
        st = rp_fs_join(&job_path, path, RP_JOB_FILE);
    }
    RP_TRY(rp_agree(cli->comm, st));
    /* Ranks that see different folders agree on one way; a rank without the file then fails. */
    if (rp_comm_any(cli->comm, rp_fs_exists(job_path))) {
        RP_TRY(verify_outputs(models, cli, job_path));
    } else {
        RP_TRY(verify_model(models, cli, path));
    }
    if (cli->is_json && rp_comm_rank(cli->comm) == 0) {
        root = json_pack("{s:O}", "models", models);
        st = rp_json_made(root);
        if (st == RP_OK) {
            st = rp_print_json(root);
        }
    }
    RP_TRY(rp_agree(cli->comm, st));
out:
    json_decref(root);
    json_decref(models);
    free(job_path);
    return st;
}
