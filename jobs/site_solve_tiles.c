/* A rank's tiles of a site: solved one by one on the pool's threads or many at once by an
 * operation, saved at a stop, taken up again. */
#include "jobs/site_solve_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "jobs/importance.h"
#include "jobs/piece.h"

static rp_form rows_of(const rp_site_solver *solver, const rp_site_tile *tile)
{
    return rp_form_view_rows(&solver->active[tile->linear].forms[tile->form], tile->row0,
                             tile->nrows);
}

/* ---- Solves ---- */

/* rows: memory for task.out. */
static rp_tile_solve task_of(const rp_site_solver *solver, const rp_site_tile *tile, rp_form *rows)
{
    const rp_active_linear *a = &solver->active[tile->linear];
    const float *w = a->target != NULL ? a->target : solver->slots[a->linear->slot];

    *rows = rows_of(solver, tile);
    return (rp_tile_solve){
        .grid = &a->linear->grid[tile->form],
        .ldl = a->solver->needs_gram ? &solver->ldl : NULL,
        .importance = rp_importance_of_linear(solver->session->importance, a->linear),
        .block_cols = a->linear->choice.block_size,
        .sweeps = rp_linear_sweeps(a->linear, tile->form),
        .w = w + tile->row0 * a->linear->cols,
        .out = rows,
    };
}

static void keep_solved(rp_site_tile *tile, const rp_tile_solve *task)
{
    tile->loss = task->loss;
    tile->is_solved = true;
}

/* A tile of the queue by a thread of the pool. */
static void solve_queued(void *ctx, int64_t index, int thread)
{
    rp_site_solver *solver = ctx;
    rp_site_tile *tile = &solver->tiles[solver->queue[index]];
    rp_form rows;
    rp_tile_solve task = task_of(solver, tile, &rows);

    if (!rp_stop_is_due(&solver->session->stop, thread)) {
        solver->active[tile->linear].solver->solve(
            &task, solver->scratch + (size_t)thread * solver->scratch_each);
        keep_solved(tile, &task);
    }
}

/* Can two tiles of the queue, which have one factor, be solved at once. */
static bool can_share(const rp_site_solver *solver, const rp_site_tile *x, const rp_site_tile *y)
{
    const rp_active_linear *a = &solver->active[x->linear];
    const rp_active_linear *b = &solver->active[y->linear];

    return a->solver == b->solver &&
           rp_grid_equal(&a->linear->grid[x->form], &b->linear->grid[y->form]) &&
           a->linear->choice.block_size == b->linear->choice.block_size &&
           rp_linear_sweeps(a->linear, x->form) == rp_linear_sweeps(b->linear, y->form);
}

/* Tasks of the queue from `first` on: those that share with it come first. Returns how many. */
static int64_t make_tasks(rp_site_solver *solver, int64_t first)
{
    int64_t n = 0;

    for (int64_t i = first; i < solver->n_queue; i++) {
        const int64_t number = solver->queue[i];
        if (can_share(solver, &solver->tiles[solver->queue[first]], &solver->tiles[number])) {
            solver->queue[i] = solver->queue[first + n];
            solver->queue[first + n] = number;
            solver->tasks[n] = task_of(solver, &solver->tiles[number], &solver->task_rows[n]);
            n++;
        }
    }
    return n;
}

/* The queue by an operation, as many tiles at once as it takes. */
static void solve_queue_at_once(rp_site_solver *solver)
{
    const rp_session *s = solver->session;

    for (int64_t i = 0; i < solver->n_queue && !rp_stop_is_due(&solver->session->stop, 0);) {
        const int64_t n = s->ops->solve_tiles(s->exec, solver->tasks, make_tasks(solver, i));
        for (int64_t k = 0; k < n; k++) {
            keep_solved(&solver->tiles[solver->queue[i + k]], &solver->tasks[k]);
        }
        i += n;
    }
}

rp_status rp_site_solve_tiles(rp_site_solver *solver, const bool is_wanted[RP_SITE_LINEARS])
{
    rp_status local = RP_OK;
    rp_session *s = solver->session;
    const int rank = rp_comm_rank(s->comm);
    double start = rp_clock_seconds();
    double begin = 0;

    solver->n_queue = 0;
    for (int64_t i = 0; i < solver->n_tiles; i++) {
        const rp_site_tile *tile = &solver->tiles[i];
        const rp_active_linear *a = &solver->active[tile->linear];
        if (tile->owner != rank || !is_wanted[tile->linear] || tile->is_solved) {
            continue;
        }
        solver->queue[solver->n_queue++] = i;
        if (a->solver->needs_gram) {
            s->flop[RP_PHASE_SOLVE] +=
                (double)tile->nrows * (double)a->linear->cols * (double)a->linear->cols;
        }
    }
    begin = start;
    if (s->ops->solve_tiles != NULL) {
        solve_queue_at_once(solver);
    } else {
        rp_pool_run(s->exec->pool, solver->n_queue, solve_queued, solver);
    }
    local = rp_place_check(s->exec);
    rp_session_lap(s, RP_PHASE_SOLVE, &start);
    solver->solve_seconds += start - begin;
    for (int64_t i = 0; i < solver->n_queue && local == RP_OK; i++) {
        if (!solver->tiles[solver->queue[i]].is_solved) {
            local = rp_stop_poll(&s->stop);
        }
    }
    return rp_agree(s->comm, local);
}

/* ---- Tiles of a site that is not finished ---- */

/* A tile is saved as its rows, "tile/7", and its loss, "tile/7/loss". */
static rp_status put_tile(const rp_site_solver *solver, int64_t i)
{
    rp_status st = RP_OK;
    const rp_site_tile *tile = &solver->tiles[i];
    const rp_form rows = rows_of(solver, tile);
    char unit[RP_SITE_PART_BYTES];

    rp_site_part_unit(unit, &solver->part, "tile/%lld", (long long)i);
    RP_TRY(rp_checkpoint_put_form(solver->session->checkpoint, unit, 0, tile->nrows, &rows));
    rp_site_part_unit(unit, &solver->part, "tile/%lld/loss", (long long)i);
    RP_TRY(rp_checkpoint_put_array(solver->session->checkpoint, unit, RP_F64, &tile->loss, 1));
out:
    return st;
}

rp_status rp_site_save_tiles(rp_site_solver *solver)
{
    rp_status st = RP_OK;
    const rp_session *s = solver->session;
    const int rank = rp_comm_rank(s->comm);
    double bytes = 0;

    for (int64_t i = 0; i < solver->n_tiles; i++) {
        if (solver->tiles[i].owner == rank && solver->tiles[i].is_solved) {
            const rp_form rows = rows_of(solver, &solver->tiles[i]);
            const rp_piece piece = rp_piece_of_form(&rows, 0, rows.rows);
            bytes += (double)rp_piece_bytes(&piece);
        }
    }
    if (!rp_site_part_pays(s, bytes, solver->solve_seconds)) {
        return RP_OK;
    }
    for (int64_t i = 0; i < solver->n_tiles; i++) {
        if (solver->tiles[i].owner == rank && solver->tiles[i].is_solved) {
            RP_TRY(put_tile(solver, i));
        }
    }
out:
    return rp_agree(s->comm, st);
}

rp_status rp_site_take_tiles(rp_site_solver *solver)
{
    rp_status st = RP_OK;
    rp_checkpoint *c = solver->session->checkpoint;
    const int rank = rp_comm_rank(solver->session->comm);
    double *loss = NULL;
    rp_form rows = {0};

    for (int64_t i = 0; i < solver->n_tiles && c != NULL; i++) {
        rp_site_tile *tile = &solver->tiles[i];
        rp_form to = rows_of(solver, tile);
        char unit[RP_SITE_PART_BYTES];
        char loss_unit[RP_SITE_PART_BYTES];
        int64_t n = 0;
        rp_site_part_unit(unit, &solver->part, "tile/%lld", (long long)i);
        rp_site_part_unit(loss_unit, &solver->part, "tile/%lld/loss", (long long)i);
        if (tile->owner != rank || !rp_checkpoint_has(c, unit) ||
            !rp_checkpoint_has(c, loss_unit)) {
            continue;
        }
        RP_TRY(rp_checkpoint_get_form(c, unit, 0, tile->nrows, &rows));
        RP_TRY(rp_checkpoint_get_array(c, loss_unit, RP_F64, &loss, &n));
        if (n != 1 || rows.cols != to.cols || rows.grid.ops != to.grid.ops) {
            st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s is not this tile", unit);
            goto out;
        }
        memcpy(to.codes, rows.codes, (size_t)(to.rows * to.cols));
        memcpy(to.params, rows.params,
               (size_t)(to.rows * rp_form_params_per_row(&to)) * sizeof(float));
        tile->loss = loss[0];
        tile->is_solved = true;
        rp_form_destroy(&rows);
        free(loss);
        loss = NULL;
    }
out:
    rp_form_destroy(&rows);
    free(loss);
    return st;
}
