/* A site's linears are cut into tiles of rows of fixed size (rp_solver_tile_rows). Tile number i of
 * the site, counted over linears and forms, belongs to rank i mod R, so the bytes that come out do
 * not depend on R. */
#include "jobs/site_solve_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs/calibration_text.h"
#include "mpi/comm_gpu.h"

static const rp_solver *solver_of(const rp_linear *linear)
{
    return rp_solver_find(rp_method_name(linear->choice.method));
}

bool rp_site_is_active(const rp_session *session, int64_t layer, rp_site site)
{
    const rp_linear *linears[RP_SITE_LINEARS];

    return rp_site_linears(linears, &session->linears, layer, site) > 0;
}

static size_t scratch_each_of(const rp_session *session)
{
    size_t most = 64;

    if (session->backend == RP_BACKEND_CUDA) {
        return 0;
    }
    for (int64_t i = 0; i < session->linears.n; i++) {
        const rp_linear *linear = &session->linears.items[i];
        const int64_t nrows = RP_MIN(rp_site_tile_rows(session, linear->rows), linear->rows);
        for (int f = 0; f < linear->n_forms; f++) {
            const size_t need = solver_of(linear)->scratch_bytes(
                &linear->grid[f], nrows, linear->cols, linear->choice.block_size);
            most = RP_MAX(most, need);
        }
    }
    return RP_DIV_UP(most, 64) * 64;
}

/* Widest site that needs statistics; 0 when none does. */
static int64_t widest_gram(const rp_session *session)
{
    int64_t most = 0;

    for (int64_t i = 0; i < session->linears.n; i++) {
        const rp_linear *linear = &session->linears.items[i];
        if (rp_linear_needs_factor(linear)) {
            most = RP_MAX(most, linear->cols);
        }
    }
    return most;
}

/* Targets of a site's linears; their forms, and with several ranks what is sent and received of
 * form 0. */
static rp_place_bytes linears_bytes(const rp_session *session, rp_site site, int nranks)
{
    const rp_linear *linears[RP_SITE_LINEARS];
    const int n = rp_site_linears(linears, &session->linears, 0, site);
    rp_place_bytes bytes = {0};

    for (int i = 0; i < n; i++) {
        const size_t n_elems = (size_t)(linears[i]->rows * linears[i]->cols);
        bytes.place += rp_linear_corrects_drift(linears[i]) ? n_elems * sizeof(float) : 0;
        for (int f = 0; f < linears[i]->n_forms; f++) {
            const rp_grid *grid = &linears[i]->grid[f];
            const size_t form =
                n_elems + (size_t)(linears[i]->rows * rp_grid_ngroups(grid, linears[i]->cols)) *
                              (size_t)grid->ops->n_params * sizeof(float);
            bytes.host += form;
            bytes.host += nranks > 1 && f == 0 ? form + form / (size_t)nranks : 0;
        }
    }
    return bytes;
}

/* Does a site need more than one factor, so that its sum is copied. */
static bool copies_sum(const rp_session *session)
{
    bool is_copied = false;

    for (int site = 0; site < RP_SITE_COUNT; site++) {
        const rp_linear *linears[RP_SITE_LINEARS];
        const int n = rp_site_linears(linears, &session->linears, 0, (rp_site)site);
        is_copied = is_copied || rp_site_factors(linears, n) > 1;
    }
    return is_copied;
}

rp_place_bytes rp_site_solver_bytes(const rp_session *session, int nranks, int nthreads)
{
    const int64_t width = widest_gram(session);
    const size_t elems = (size_t)width * (size_t)width;
    const size_t sum = elems * sizeof(int64_t);
    const rp_place_bytes drift = rp_drift_bytes(session, nranks);
    rp_place_bytes most = {0};

    for (int site = 0; site < RP_SITE_COUNT; site++) {
        const rp_place_bytes here = linears_bytes(session, (rp_site)site, nranks);
        most.host = RP_MAX(most.host, here.host);
        most.place = RP_MAX(most.place, here.place);
    }
    most.host += drift.host + (size_t)nthreads * scratch_each_of(session);
    most.host += session->backend == RP_BACKEND_CUDA ? rp_site_gram_save_bytes(width) : 0;
    most.place += drift.place + sum + elems * sizeof(float) + (copies_sum(session) ? sum : 0);
    most.place += nranks > 1 ? rp_gram_scratch_bytes(width) : 0;
    return most;
}

rp_status rp_site_solver_create(rp_site_solver **out, rp_session *session)
{
    rp_status st = RP_OK;
    rp_site_solver *solver = NULL;
    const int64_t width = widest_gram(session);

    *out = NULL;
    RP_ASSERT((session->backend == RP_BACKEND_CUDA) == (session->ops->solve_tiles != NULL));
    RP_TRY(rp_calloc(&solver, 1, sizeof(*solver)));
    solver->session = session;
    solver->scratch_each = scratch_each_of(session);
    RP_TRY(rp_alloc_array(&solver->scratch, (size_t)rp_pool_nthreads(session->exec->pool),
                          solver->scratch_each));
    RP_TRY(rp_drift_create(&solver->drift, session));
    if (width > 0) {
        RP_TRY(rp_gram_create(&solver->gram, session->ops, session->exec, width));
        if (rp_comm_nranks(session->comm) > 1) {
            RP_TRY(rp_place_alloc(session->exec, &solver->reduce_scratch, 1,
                                  rp_gram_scratch_bytes(width)));
        }
    }
    *out = solver;
    solver = NULL;
out:
    rp_site_solver_destroy(&solver);
    return st;
}

static void clear_site(rp_site_solver *solver)
{
    for (int i = 0; i < RP_SITE_LINEARS; i++) {
        for (int f = 0; f < RP_MAX_OUTPUTS; f++) {
            rp_form_destroy(&solver->active[i].forms[f]);
        }
        rp_place_free(solver->session->exec, solver->active[i].target);
    }
    memset(solver->active, 0, sizeof(solver->active));
    solver->n_active = 0;
    solver->solve_seconds = 0;
    rp_site_factor_destroy(&solver->factor);
    free(solver->tiles);
    free(solver->queue);
    free(solver->tasks);
    free(solver->task_rows);
    solver->tiles = NULL;
    solver->queue = NULL;
    solver->tasks = NULL;
    solver->task_rows = NULL;
    solver->n_tiles = 0;
}

void rp_site_solver_destroy(rp_site_solver **solver)
{
    rp_site_solver *s = *solver;

    if (s == NULL) {
        return;
    }
    clear_site(s);
    rp_drift_destroy(&s->drift);
    rp_gram_destroy(&s->gram);
    rp_place_free(s->session->exec, s->reduce_scratch);
    free(s->scratch);
    free(s);
    *solver = NULL;
}

/* Lists the site's linears and tiles, and allocates their forms. */
static rp_status set_up(rp_site_solver *solver, int64_t layer, rp_site site)
{
    rp_status st = RP_OK;
    const rp_session *s = solver->session;
    const rp_linear *linears[RP_SITE_LINEARS];

    solver->n_active = rp_site_linears(linears, &s->linears, layer, site);
    for (int i = 0; i < solver->n_active; i++) {
        rp_active_linear *a = &solver->active[i];
        const rp_linear *linear = linears[i];
        a->linear = linear;
        a->solver = solver_of(linear);
        if (rp_linear_corrects_drift(linear)) {
            RP_TRY(rp_place_alloc(s->exec, &a->target, (size_t)(linear->rows * linear->cols),
                                  sizeof(*a->target)));
        }
        for (int f = 0; f < linear->n_forms; f++) {
            RP_TRY(
                rp_form_create_codes(&a->forms[f], &linear->grid[f], linear->rows, linear->cols));
        }
    }
    RP_TRY(rp_site_tiles_list(&solver->tiles, &solver->n_tiles, s, linears, solver->n_active,
                              rp_comm_nranks(s->comm)));
    RP_TRY(rp_alloc_array(&solver->queue, (size_t)solver->n_tiles, sizeof(*solver->queue)));
    RP_TRY(rp_alloc_array(&solver->tasks, (size_t)solver->n_tiles, sizeof(*solver->tasks)));
    RP_TRY(rp_alloc_array(&solver->task_rows, (size_t)solver->n_tiles, sizeof(rp_form)));
out:
    return st;
}

/* Does any linear of the site in hand want its drift corrected. */
static bool corrects_drift(const rp_site_solver *solver)
{
    for (int i = 0; i < solver->n_active; i++) {
        if (solver->active[i].target != NULL) {
            return true;
        }
    }
    return false;
}

bool rp_site_begin(rp_site_solver *solver, int64_t layer, rp_site site)
{
    rp_session *s = solver->session;
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);
    const rp_linear *linears[RP_SITE_LINEARS];
    const int n = rp_site_linears(linears, &s->linears, layer, site);
    bool is_summed = false;
    bool keeps_aside = false;

    for (int i = 0; i < n; i++) {
        is_summed = is_summed || rp_linear_needs_factor(linears[i]);
        keeps_aside = keeps_aside || rp_linear_corrects_drift(linears[i]);
    }
    solver->begun = (rp_site_part){s, layer, site};
    solver->begun_opts =
        (rp_site_gram_opts){.cols = is_summed ? linears[0]->cols : 0, .keeps_aside = keeps_aside};
    if (is_summed) {
        rp_site_gram_begin(&solver->gram, &blocks, &solver->begun_opts);
    }
    return is_summed;
}

rp_status rp_site_observe(rp_site_solver *solver, int64_t block, rp_cmat input)
{
    const rp_session *s = solver->session;
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);

    return rp_site_gram_observe(&solver->gram, &blocks, &solver->begun_opts, block, input);
}

static bool is_begun(const rp_site_solver *solver)
{
    return solver->begun_opts.cols > 0 && solver->begun.layer == solver->part.layer &&
           solver->begun.site == solver->part.site;
}

/* Collective. The site's Gram sum at `owner`; with a drift to correct, without the blocks kept
 * aside. */
static rp_status gather_statistics(rp_site_solver *solver, const rp_site_input *in, int64_t cols,
                                   int owner)
{
    rp_status st = RP_OK;
    const rp_site_gram_opts opts = {.cols = cols,
                                    .keeps_aside = corrects_drift(solver),
                                    .is_observed = is_begun(solver),
                                    .owner = owner,
                                    .scratch = solver->reduce_scratch,
                                    .part = &solver->part};
    const rp_linear *linears[RP_SITE_LINEARS];

    RP_TRY(rp_site_gram_sum(&solver->gram, solver->session, in, &opts));
    if (opts.keeps_aside) {
        for (int i = 0; i < solver->n_active; i++) {
            linears[i] = solver->active[i].linear;
        }
        st = rp_drift_begin_site(solver->drift, in, &solver->gram, linears, solver->n_active);
    }
out:
    return st;
}

/* The owner's. The build uses the sum up: it works on a copy when another damping or order comes.
 */
static rp_status build_factor(rp_site_solver *solver, const rp_linear_choice *choice,
                              bool is_last_use, rp_damping_log *log)
{
    rp_status st = RP_OK;
    rp_session *s = solver->session;
    const rp_gram *gram = &solver->gram;
    const size_t cols = (size_t)gram->cols;
    rp_gram_view view = {gram->cols,     gram->n_tokens, gram->sum,
                         gram->exponent, gram->shift,    gram->max_abs};
    int64_t *copy = NULL;

    if (!is_last_use) {
        RP_TRY(rp_place_alloc(s->exec, &copy, cols * cols, sizeof(*copy)));
        rp_place_copy(s->exec, copy, gram->sum, cols * cols * sizeof(*copy));
        view.sum = copy;
    }
    s->flop[RP_PHASE_FACTOR] += (double)cols * (double)cols * (double)cols / 3;
    RP_TRY(rp_site_factor_build(&solver->factor, log, s->ops, s->exec, &view,
                                choice->dampening_frac, choice->actorder == RP_ACTORDER_STATIC));
out:
    rp_place_free(s->exec, copy);
    return st;
}

static void broadcast_factor(rp_site_solver *solver, int owner)
{
    const rp_session *s = solver->session;
    rp_site_factor_part parts[RP_SITE_FACTOR_PARTS];

    rp_site_factor_list_parts(parts, &solver->factor, solver->factor.cols);
    for (int i = 0; i < RP_SITE_FACTOR_PARTS; i++) {
        if (parts[i].is_in_place) {
            rp_comm_place_bcast(s->comm, s->exec, parts[i].data, parts[i].nbytes, owner);
        } else {
            rp_comm_bcast(s->comm, parts[i].data, parts[i].nbytes, owner);
        }
    }
}

/* Collective. The owner's factor on every rank; *is_fallback when there is none. */
static rp_status share_factor(rp_site_solver *solver, const rp_linear *lead, int owner,
                              bool is_last_use, rp_damping_log *log)
{
    rp_status st = RP_OK;
    rp_session *s = solver->session;
    rp_site_factor *f = &solver->factor;
    double start = rp_clock_seconds();

    rp_site_factor_destroy(f);
    if (rp_comm_rank(s->comm) == owner) {
        st = build_factor(solver, &lead->choice, is_last_use, log);
    } else {
        st = rp_site_factor_alloc(f, s->exec, solver->gram.cols);
    }
    rp_session_lap(s, RP_PHASE_FACTOR, &start);
    RP_TRY(rp_agree(s->comm, st));
    rp_comm_bcast(s->comm, log, sizeof(*log), owner);
    if (!log->is_fallback) {
        f->is_actorder = lead->choice.actorder == RP_ACTORDER_STATIC;
        broadcast_factor(solver, owner);
        solver->ldl = rp_site_factor_ldl(f);
        if (solver->drift != NULL) {
            rp_drift_begin_factor(solver->drift, &solver->ldl);
        }
    }
    rp_session_lap(s, RP_PHASE_EXCHANGE, &start);
out:
    return st;
}

/* Collective. What the solver is asked for: the weights, or the drift-corrected target. */
static rp_status set_target(rp_site_solver *solver, rp_active_linear *a, const rp_damping_log *log)
{
    rp_status st = RP_OK;

    a->damping = *log;
    a->is_fallback = log->is_fallback;
    a->is_done = true;
    if (log->is_fallback) {
        a->solver = &rp_solver_rtn;
        rp_place_free(solver->session->exec, a->target);
        a->target = NULL;
    }
    if (a->target != NULL) {
        st = rp_drift_target(solver->drift, a->linear, solver->slots[a->linear->slot], a->target,
                             &a->drift);
    }
    return st;
}

/* One factor for all linears that ask for the same damping and order; then the next. */
static rp_status solve_with_factors(rp_site_solver *solver, int owner)
{
    rp_status st = RP_OK;

    for (int i = 0; i < solver->n_active; i++) {
        rp_active_linear *lead = &solver->active[i];
        bool is_wanted[RP_SITE_LINEARS] = {false};
        bool is_last_use = true;
        rp_damping_log log = {0};
        if (lead->is_done || !rp_linear_needs_factor(lead->linear)) {
            continue;
        }
        for (int j = i; j < solver->n_active; j++) {
            rp_active_linear *a = &solver->active[j];
            is_wanted[j] = !a->is_done && rp_linear_needs_factor(a->linear) &&
                           rp_linear_same_factor(lead->linear, a->linear);
            is_last_use =
                is_last_use && (is_wanted[j] || a->is_done || !rp_linear_needs_factor(a->linear));
        }
        RP_TRY(share_factor(solver, lead->linear, owner, is_last_use, &log));
        for (int j = i; j < solver->n_active; j++) {
            if (is_wanted[j]) {
                RP_TRY(set_target(solver, &solver->active[j], &log));
            }
        }
        RP_TRY(rp_site_solve_tiles(solver, is_wanted));
    }
out:
    return st;
}

size_t rp_site_payload_bytes(const rp_site_solver *solver, const rp_site_tile *tile)
{
    return rp_site_tile_bytes(tile, solver->active[tile->linear].linear);
}

static void copy_payload(rp_site_solver *solver, rp_site_tile *tile, char *bytes, bool is_packing)
{
    const rp_form *form = &solver->active[tile->linear].forms[tile->form];
    const rp_form rows = rp_form_view_rows(form, tile->row0, tile->nrows);
    const size_t n_codes = (size_t)(tile->nrows * form->cols);
    const size_t n_params = (size_t)(tile->nrows * rp_form_params_per_row(form)) * sizeof(float);

    if (is_packing) {
        memcpy(bytes, &tile->loss, sizeof(double));
    } else {
        memcpy(&tile->loss, bytes, sizeof(double));
    }
    if (tile->form != 0) {
        return;
    }
    bytes += sizeof(double);
    if (is_packing) {
        memcpy(bytes, rows.params, n_params);
        memcpy(bytes + n_params, rows.codes, n_codes);
    } else {
        memcpy(rows.params, bytes, n_params);
        memcpy(rows.codes, bytes + n_params, n_codes);
    }
}

/* Collective. Every rank gets every tile's loss and form 0. */
static rp_status exchange(rp_site_solver *solver)
{
    rp_status st = RP_OK;
    rp_session *s = solver->session;
    const int nranks = rp_comm_nranks(s->comm);
    const int rank = rp_comm_rank(s->comm);
    size_t *nbytes = NULL;
    char *send = NULL;
    char *recv = NULL;
    size_t total = 0;
    size_t own = 0;
    size_t at = 0;
    double start = rp_clock_seconds();

    if (nranks == 1) {
        return RP_OK;
    }
    for (int64_t i = 0; i < solver->n_tiles; i++) {
        total += rp_site_payload_bytes(solver, &solver->tiles[i]);
        own +=
            solver->tiles[i].owner == rank ? rp_site_payload_bytes(solver, &solver->tiles[i]) : 0;
    }
    st = rp_calloc(&nbytes, (size_t)nranks, sizeof(*nbytes));
    if (st == RP_OK) {
        st = rp_alloc(&send, own);
    }
    if (st == RP_OK) {
        st = rp_alloc(&recv, total);
    }
    RP_TRY(rp_agree(s->comm, st));
    RP_ASSERT(nbytes != NULL && send != NULL && recv != NULL);
    for (int64_t i = 0; i < solver->n_tiles; i++) {
        nbytes[solver->tiles[i].owner] += rp_site_payload_bytes(solver, &solver->tiles[i]);
    }
    for (int64_t i = 0; i < solver->n_tiles; i++) {
        if (solver->tiles[i].owner == rank) {
            copy_payload(solver, &solver->tiles[i], send + at, true);
            at += rp_site_payload_bytes(solver, &solver->tiles[i]);
        }
    }
    rp_comm_allgatherv(s->comm, send, recv, nbytes);
    at = 0;
    for (int r = 0; r < nranks; r++) {
        for (int64_t i = 0; i < solver->n_tiles; i++) {
            if (solver->tiles[i].owner == r) {
                copy_payload(solver, &solver->tiles[i], recv + at, false);
                at += rp_site_payload_bytes(solver, &solver->tiles[i]);
            }
        }
    }
    rp_session_lap(s, RP_PHASE_EXCHANGE, &start);
out:
    free(recv);
    free(send);
    free(nbytes);
    return st;
}

static rp_status put_pieces(rp_site_solver *solver)
{
    rp_status st = RP_OK;
    rp_session *s = solver->session;
    char unit[160];
    double start = rp_clock_seconds();

    for (int64_t i = 0; i < solver->n_tiles && s->checkpoint != NULL; i++) {
        const rp_site_tile *tile = &solver->tiles[i];
        const rp_active_linear *a = &solver->active[tile->linear];
        const rp_form rows = rp_form_view_rows(&a->forms[tile->form], tile->row0, tile->nrows);
        if (tile->owner == rp_comm_rank(s->comm)) {
            rp_linear_unit(unit, sizeof(unit), a->linear, tile->form);
            RP_TRY(rp_checkpoint_put_form(s->checkpoint, unit, tile->row0, a->linear->rows, &rows));
        }
    }
    rp_session_lap(s, RP_PHASE_CHECKPOINT, &start);
out:
    return st;
}

void rp_site_replace(rp_site_solver *solver)
{
    const rp_session *s = solver->session;

    for (int i = 0; i < solver->n_active; i++) {
        const rp_active_linear *a = &solver->active[i];
        s->ops->decode_rows(s->exec, &a->forms[0], 0, a->linear->rows,
                            solver->slots[a->linear->slot]);
    }
    clear_site(solver);
}

static json_t *damping_json(const rp_damping_log *log)
{
    json_t *tried = json_array();

    for (int i = 0; i < log->n_steps; i++) {
        json_array_append_new(tried, json_real(log->tried[i]));
    }
    return tried;
}

static json_t *drift_json(const rp_drift_result *drift)
{
    if (!drift->is_measured) {
        return json_null();
    }
    return json_pack("{s:f, s:f, s:b}", "kept_aside_before", drift->before, "kept_aside_after",
                     drift->after, "taken", (int)drift->is_taken);
}

/* One object a linear and form. Losses are summed in tile order. */
static rp_status add_facts(const rp_site_solver *solver, json_t *facts)
{
    for (int i = 0; i < solver->n_active; i++) {
        const rp_active_linear *a = &solver->active[i];
        for (int f = 0; f < a->linear->n_forms; f++) {
            char grid[64];
            double loss = 0;
            json_t *fact = NULL;
            for (int64_t t = 0; t < solver->n_tiles; t++) {
                loss += solver->tiles[t].linear == i && solver->tiles[t].form == f
                            ? solver->tiles[t].loss
                            : 0;
            }
            rp_grid_describe(&a->linear->grid[f], grid, sizeof(grid));
            fact = json_pack("{s:s, s:i, s:s, s:s, s:f, s:o, s:b, s:o}", "tensor",
                             a->linear->module, "form", f, "method", a->solver->name, "grid", grid,
                             "loss", loss, "damping_tried", damping_json(&a->damping), "fallback",
                             (int)a->is_fallback, "drift", drift_json(&a->drift));
            if (fact == NULL || json_array_append_new(facts, fact) != 0) {
                return RP_FAIL(RP_ERR_MEMORY, "no memory for the report");
            }
            if (a->damping.n_steps > 1) {
                RP_LOG(RP_LOG_WARN, "damping", rp_log_str("tensor", a->linear->module),
                       rp_log_i64("steps", a->damping.n_steps),
                       rp_log_f64("last", a->damping.tried[a->damping.n_steps - 1]),
                       rp_log_i64("fallback", a->is_fallback));
            }
        }
    }
    return RP_OK;
}

rp_status rp_site_solve(rp_site_solver *solver, int64_t layer, rp_site site,
                        const rp_site_input *input, float *slots[RP_SLOT_COUNT], json_t *facts)
{
    rp_status st = RP_OK;
    rp_session *s = solver->session;
    const int owner = rp_site_owner(layer, site, rp_comm_nranks(s->comm));
    bool is_plain[RP_SITE_LINEARS] = {false};
    bool has_plain = false;
    bool needs_statistics = false;

    solver->slots = slots;
    solver->part = (rp_site_part){s, layer, site};
    st = set_up(solver, layer, site);
    if (st == RP_OK) {
        st = rp_site_take_tiles(solver);
    }
    RP_TRY(rp_agree(s->comm, st));
    for (int i = 0; i < solver->n_active; i++) {
        is_plain[i] = !rp_linear_needs_factor(solver->active[i].linear);
        has_plain = has_plain || is_plain[i];
        needs_statistics = needs_statistics || !is_plain[i];
    }
    if (has_plain) {
        RP_TRY(rp_site_solve_tiles(solver, is_plain));
    }
    if (needs_statistics) {
        RP_TRY(gather_statistics(solver, input, solver->active[0].linear->cols, owner));
        RP_TRY(solve_with_factors(solver, owner));
    }
    RP_TRY(exchange(solver));
    st = put_pieces(solver);
    if (st == RP_OK) {
        st = add_facts(solver, facts);
    }
    RP_TRY(rp_agree(s->comm, st));
out:
    /* A collective between GPUs that failed left some rank without its data: tiles may be wrong. */
    if (st == RP_ERR_STOPPED && rp_comm_gpu_failure(s->comm) == NULL) {
        const rp_status saved = rp_site_save_tiles(solver);
        st = saved == RP_OK ? RP_ERR_STOPPED : saved; /* the stop's message is still there */
    }
    if (st != RP_OK) {
        clear_site(solver);
    }
    return st;
}
