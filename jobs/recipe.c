/* Which step of the recipe has a linear, and with which scheme. */
#include "jobs/recipe.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#define PATTERN_MARK "re:"
#define LINEAR_CLASS "Linear"

static bool is_pattern(const char *target)
{
    return strncmp(target, PATTERN_MARK, strlen(PATTERN_MARK)) == 0;
}

static rp_status compile(pcre2_code **out, const char *target)
{
    const char *pattern = target + strlen(PATTERN_MARK);
    PCRE2_UCHAR problem[128];
    PCRE2_SIZE at = 0;
    int code = 0;

    *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_UTF,
                         &code, &at, NULL);
    if (*out == NULL) {
        (void)pcre2_get_error_message(code, problem, sizeof(problem));
        return RP_FAIL(RP_ERR_USAGE, "not a regular expression: \"%s\": %s at offset %zu", pattern,
                       (const char *)problem, at);
    }
    return RP_OK;
}

rp_status rp_target_check(const char *text)
{
    rp_status st = RP_OK;
    pcre2_code *code = NULL;

    if (is_pattern(text)) {
        RP_TRY(compile(&code, text));
    }
out:
    pcre2_code_free(code);
    return st;
}

static rp_status matches(bool *out, const char *target, const char *module)
{
    rp_status st = RP_OK;
    pcre2_code *code = NULL;
    pcre2_match_data *data = NULL;

    *out = strcmp(target, LINEAR_CLASS) == 0 || strcmp(target, module) == 0;
    if (is_pattern(target)) {
        RP_TRY(compile(&code, target));
        data = pcre2_match_data_create_from_pattern(code, NULL);
        if (data == NULL) {
            st = RP_FAIL(RP_ERR_MEMORY, "no memory to match \"%s\"", target);
            goto out;
        }
        *out = pcre2_match(code, (PCRE2_SPTR)module, strlen(module), 0, 0, data, NULL) >= 0;
    }
out:
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return st;
}

static rp_status matches_any(bool *out, const rp_string_list *targets, const char *module)
{
    rp_status st = RP_OK;

    *out = false;
    for (int64_t i = 0; i < targets->n && !*out; i++) {
        RP_TRY(matches(out, targets->items[i], module));
    }
out:
    return st;
}

static rp_status step_takes(bool *out, const rp_recipe_step *step, const char *module)
{
    rp_status st = RP_OK;
    bool is_ignored = false;

    RP_TRY(matches_any(out, &step->targets, module));
    if (*out) {
        RP_TRY(matches_any(&is_ignored, &step->ignore, module));
        *out = !is_ignored;
    }
out:
    return st;
}

static void fill_choice(rp_linear_choice *out, const rp_recipe_step *step,
                        const rp_step_scheme *scheme)
{
    out->is_dense = false;
    out->method = (rp_method)step->method;
    out->scheme.bits = (int)scheme->bits;
    out->scheme.is_symmetric = scheme->is_symmetric != 0;
    out->scheme.group_size = scheme->group_size < 0 ? 0 : scheme->group_size;
    out->scheme.mse = scheme->mse != 0;
    out->actorder = (rp_actorder)scheme->actorder;
    out->dampening_frac = scheme->dampening_frac;
    out->drift = (rp_drift_mode)step->drift;
    out->block_size = step->block_size;
    out->sweeps = step->sweeps;
    out->weighs_by_own_sums =
        step->imatrix != NULL && strcmp(step->imatrix, RP_IMATRIX_CALIBRATION) == 0;
    if (step->imatrix != NULL && strcmp(step->imatrix, RP_IMATRIX_NONE) != 0 &&
        !out->weighs_by_own_sums) {
        out->imatrix = step->imatrix;
    }
}

rp_status rp_recipe_match(rp_linear_choice *out, const rp_job *job, const char *module)
{
    rp_status st = RP_OK;
    bool is_match = false;

    memset(out, 0, sizeof(*out));
    out->is_dense = true;
    for (int64_t s = 0; s < job->recipe.n && out->is_dense; s++) {
        const rp_recipe_step *step = &job->recipe.items[s];
        const rp_step_scheme *scheme = &step->scheme;
        RP_TRY(step_takes(&is_match, step, module));
        if (!is_match) {
            continue;
        }
        for (int64_t o = 0; o < step->overrides.n; o++) {
            RP_TRY(matches_any(&is_match, &step->overrides.items[o].targets, module));
            if (is_match) {
                scheme = &step->overrides.items[o].scheme;
                break;
            }
        }
        out->step = s;
        fill_choice(out, step, scheme);
    }
out:
    return st;
}

static rp_status check_targets(const rp_job *job, const rp_string_list *targets, const char *where,
                               const char *const *modules, int64_t n)
{
    rp_status st = RP_OK;

    for (int64_t t = 0; t < targets->n; t++) {
        bool is_match = false;
        for (int64_t m = 0; m < n && !is_match; m++) {
            RP_TRY(matches(&is_match, targets->items[t], modules[m]));
        }
        if (!is_match) {
            st = RP_FAIL(RP_ERR_CONFIG, "%s: %s: target \"%s\" matches no linear of the model",
                         job->origin, where, targets->items[t]);
            goto out;
        }
    }
out:
    return st;
}

rp_status rp_recipe_check(const rp_job *job, const char *const *modules, int64_t n)
{
    rp_status st = RP_OK;
    char where[96];

    for (int64_t s = 0; s < job->recipe.n; s++) {
        const rp_recipe_step *step = &job->recipe.items[s];
        const char *method = rp_method_name(step->method);
        (void)snprintf(where, sizeof(where), "recipe.%d.%s", (int)s, method);
        RP_TRY(check_targets(job, &step->targets, where, modules, n));
        for (int64_t o = 0; o < step->overrides.n; o++) {
            (void)snprintf(where, sizeof(where), "recipe.%d.%s.overrides.%d", (int)s, method,
                           (int)o);
            RP_TRY(check_targets(job, &step->overrides.items[o].targets, where, modules, n));
        }
    }
out:
    return st;
}
