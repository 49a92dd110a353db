/* Rotary position tables. Sources of the types: linear (kaiokendev), dynamic NTK (bloc97,
 * emozilla), llama3 (Meta), yarn (arXiv:2309.00071), longrope (arXiv:2402.13753), all as
 * transformers' modeling_rope_utils.py computes them: frequencies and angles are rounded to f32
 * there, so they are here, or long positions would turn by a different angle. */
#include "model/rope.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "kernels/place.h"

#define TWO_PI 6.283185307179586

static double clamp(double x, double low, double high)
{
    return fmin(fmax(x, low), high);
}

/* Base of the powers: grown for dynamic when the sequence is longer than the model was made for. */
static double base_of(const rp_model_config *config, int64_t seq_len)
{
    const rp_rope_config *rope = &config->rope;
    const double d = (double)rp_model_rotary_dims(config);

    if (rope->type != RP_ROPE_DYNAMIC || seq_len <= config->max_position) {
        return rope->theta;
    }
    const double ratio = (double)seq_len / (double)config->max_position;
    return rope->theta * pow(rope->factor * ratio - (rope->factor - 1), d / (d - 2));
}

/* Long waves are stretched by factor, short ones kept, those between interpolated. */
static double scale_llama3(const rp_rope_config *rope, double inv_freq)
{
    const double waves = (double)rope->original_max_position * inv_freq / TWO_PI;
    const double keep = clamp(
        (waves - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor), 0, 1);
    return (1 - keep) * inv_freq / rope->factor + keep * inv_freq;
}

/* Dimension (of d) whose wave turns n_turns times in the original length. */
static double yarn_dim(const rp_rope_config *rope, double d, double n_turns)
{
    return d * log((double)rope->original_max_position / (n_turns * TWO_PI)) /
           (2 * log(rope->theta));
}

static double scale_yarn(const rp_rope_config *rope, double d, double i, double inv_freq)
{
    double low = yarn_dim(rope, d, rope->beta_fast);
    double high = yarn_dim(rope, d, rope->beta_slow);

    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, d - 1);
    if (high == low) {
        high += 0.001;
    }
    const double stretch = clamp((i - low) / (high - low), 0, 1);
    return stretch * inv_freq / rope->factor + (1 - stretch) * inv_freq;
}

static double attention_factor(const rp_rope_config *rope)
{
    if (rope->type != RP_ROPE_YARN && rope->type != RP_ROPE_LONGROPE) {
        return 1;
    }
    if (rope->attention_factor > 0) {
        return rope->attention_factor;
    }
    if (rope->factor <= 1) {
        return 1;
    }
    return rope->type == RP_ROPE_YARN
               ? 0.1 * log(rope->factor) + 1
               : sqrt(1 + log(rope->factor) / log((double)rope->original_max_position));
}

double rp_rope_frequencies(const rp_model_config *config, int64_t seq_len, float *inv_freq)
{
    const rp_rope_config *rope = &config->rope;
    const int64_t d = rp_model_rotary_dims(config);
    const double base = base_of(config, seq_len);
    const float *const stretch =
        seq_len > rope->original_max_position ? rope->long_factor : rope->short_factor;

    for (int64_t i = 0; i < d / 2; i++) {
        double f = pow(base, -2.0 * (double)i / (double)d);
        switch (rope->type) {
        case RP_ROPE_LINEAR:
            f /= rope->factor;
            break;
        case RP_ROPE_LLAMA3:
            f = scale_llama3(rope, f);
            break;
        case RP_ROPE_YARN:
            f = scale_yarn(rope, (double)d, (double)i, f);
            break;
        case RP_ROPE_LONGROPE:
            f /= (double)stretch[i];
            break;
        case RP_ROPE_DEFAULT:
        case RP_ROPE_DYNAMIC:
            break;
        }
        inv_freq[i] = (float)f;
    }
    return attention_factor(rope);
}

size_t rp_rope_bytes(const rp_model_config *config, int64_t seq_len)
{
    return (size_t)(seq_len * rp_model_rotary_dims(config)) * sizeof(float);
}

/* cos_sin [2, seq_len, rot_dim / 2]. */
static void fill_table(float *cos_sin, const rp_model_config *config, int64_t seq_len)
{
    const int64_t half = rp_model_rotary_dims(config) / 2;
    float inv_freq[RP_ROPE_MAX_FACTORS] = {0};
    const double factor = rp_rope_frequencies(config, seq_len, inv_freq);
    float *const cos_at = cos_sin;
    float *const sin_at = cos_sin + seq_len * half;

    for (int64_t p = 0; p < seq_len; p++) {
        for (int64_t i = 0; i < half; i++) {
            const float angle = (float)p * inv_freq[i];
            cos_at[p * half + i] = (float)(cos((double)angle) * factor);
            sin_at[p * half + i] = (float)(sin((double)angle) * factor);
        }
    }
}

rp_status rp_rope_create(rp_rope *out, const rp_model_config *config, const rp_exec *exec,
                         int64_t seq_len)
{
    rp_status st = RP_OK;
    const int64_t rot_dim = rp_model_rotary_dims(config) / 2 * 2;
    float *filled = NULL;
    size_t n = 0;

    *out = (rp_rope){.cos_sin = NULL};
    RP_TRY(rp_mul_size(&n, (size_t)seq_len, (size_t)rot_dim));
    RP_TRY(rp_alloc_array(&filled, n, sizeof(float)));
    RP_TRY(rp_place_alloc(exec, &out->cos_sin, n, sizeof(float)));
    fill_table(filled, config, seq_len);
    rp_place_put(exec, out->cos_sin, filled, n * sizeof(float));
    out->table =
        (rp_rope_table){.cos = out->cos_sin, .sin = out->cos_sin + n / 2, .rot_dim = (int)rot_dim};
out:
    free(filled);
    return st;
}

void rp_rope_destroy(const rp_exec *exec, rp_rope *rope)
{
    rp_place_free(exec, rope->cos_sin);
    *rope = (rp_rope){.cos_sin = NULL};
}
