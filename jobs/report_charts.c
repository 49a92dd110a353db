/* Bars and lines as SVG. Attention is drawn solid and the MLP dashed, so that the lines can be told
 * apart without colours; every point has a tooltip. */
#include "jobs/report_charts.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "jobs/print.h"

const char rp_chart_style[] =
    ":root{--c0:#0072b2;--c1:#2d8fc4;--c2:#00805c;--c3:#b26f00;--c4:#d0480c;--c5:#b0568c;"
    "--c6:#666}\n"
    "@media(prefers-color-scheme:dark){:root{--c0:#5aabe6;--c1:#94d2ff;--c2:#3fcfa0;--c3:#ffb84d;"
    "--c4:#ff8552;--c5:#eb9fca;--c6:#bbb}}\n"
    "svg{width:100%;height:auto;display:block}\n"
    "svg text{fill:var(--ink);font-size:12px}\n"
    ".grid{stroke:var(--line);stroke-width:1}\n"
    ".bar{fill:var(--c0)}\n"
    ".track{fill:var(--soft)}\n"
    "polyline{fill:none;stroke-width:2}\n"
    ".dash{stroke-dasharray:6 3}\n"
    ".s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}"
    ".s4{stroke:var(--c4)}.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}\n"
    "circle{stroke-width:2;fill:var(--page)}\n";

/* Bars. */
#define BAR_ROW 26
#define BAR_X 110
#define BAR_WIDTH 470

void rp_chart_phases(rp_text *text, const json_t *phases)
{
    double longest = 1e-9;
    const char *name = NULL;
    json_t *phase = NULL;
    int row = 0;

    json_object_foreach((json_t *)phases, name, phase)
    {
        longest = fmax(longest, json_number_value(json_object_get(phase, "seconds")));
    }
    rp_text_put(text,
                "<svg viewBox=\"0 0 760 %zu\" role=\"img\" aria-label=\"seconds by phase\">\n",
                json_object_size(phases) * BAR_ROW);
    json_object_foreach((json_t *)phases, name, phase)
    {
        const double seconds = json_number_value(json_object_get(phase, "seconds"));
        const double flop = json_number_value(json_object_get(phase, "flop"));
        const int y = BAR_ROW * row++;
        rp_text_put(text, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", BAR_X - 10, y + 17);
        rp_text_put_html(text, name);
        rp_text_put(text,
                    "</text><rect class=\"track\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"16\" "
                    "rx=\"3\"/><rect class=\"bar\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"16\" "
                    "rx=\"3\"/><text x=\"%d\" y=\"%d\">%.2f s",
                    BAR_X, y + 4, BAR_WIDTH, BAR_X, y + 4, BAR_WIDTH * seconds / longest,
                    BAR_X + BAR_WIDTH + 10, y + 17, seconds);
        if (flop > 0 && seconds > 0) {
            rp_text_put(text, ", %.1f GFLOP/s", flop / seconds / 1e9);
        }
        rp_text_put(text, "</text>\n");
    }
    rp_text_put(text, "</svg>\n");
}

/* Lines. Plot area in the units of the view box. */
#define LEFT 70
#define RIGHT 740
#define TOP 44
#define BOTTOM 330

typedef struct series {
    const char *module; /* last part of the tensor's name */
    const char *label;
    bool is_dashed;
} series;

static const series all_series[] = {
    {"q_proj", "q", false},      {"k_proj", "k", false},      {"v_proj", "v", false},
    {"o_proj", "o", false},      {"gate_proj", "gate", true}, {"up_proj", "up", true},
    {"down_proj", "down", true},
};

typedef struct plot {
    const json_t *layers;
    int low, high; /* decades: 10^low at the bottom */
} plot;

/* Loss of form 0 of one series in one layer; 0 when there is none that a logarithm can show. */
static double loss_of(const json_t *layer, const series *s)
{
    const json_t *fact = NULL;
    size_t i = 0;

    json_array_foreach(layer, i, fact)
    {
        const char *name = strrchr(rp_json_text(fact, "tensor"), '.');
        const double loss = json_number_value(json_object_get(fact, "loss"));
        if (name != NULL && strcmp(name + 1, s->module) == 0 &&
            json_integer_value(json_object_get(fact, "form")) == 0) {
            return isfinite(loss) && loss > 0 ? loss : 0;
        }
    }
    return 0;
}

static double x_of(const plot *p, size_t layer)
{
    const size_t last = json_array_size(p->layers) - 1;

    return last == 0 ? (LEFT + RIGHT) / 2.0
                     : LEFT + (double)(RIGHT - LEFT) * (double)layer / (double)last;
}

static double y_of(const plot *p, double loss)
{
    return BOTTOM - (BOTTOM - TOP) * (log10(loss) - p->low) / (p->high - p->low);
}

/* Whole decades around all losses; false without any. */
static bool set_scale(plot *p)
{
    double least = INFINITY;
    double most = 0;

    for (size_t l = 0; l < json_array_size(p->layers); l++) {
        for (size_t i = 0; i < RP_COUNT(all_series); i++) {
            const double loss = loss_of(json_array_get(p->layers, l), &all_series[i]);
            least = loss > 0 ? fmin(least, loss) : least;
            most = fmax(most, loss);
        }
    }
    if (most <= 0) {
        return false;
    }
    p->low = (int)floor(log10(least));
    p->high = (int)ceil(log10(most));
    p->high += p->high == p->low;
    return true;
}

static void put_axes(rp_text *text, const plot *p)
{
    const size_t n = json_array_size(p->layers);
    const size_t step = RP_DIV_UP(n, 16);
    const int decades = RP_DIV_UP(p->high - p->low, 8);

    for (int d = p->low; d <= p->high; d += decades) {
        const double y = y_of(p, pow(10, d));
        rp_text_put(text,
                    "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>"
                    "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">1e%d</text>\n",
                    LEFT, y, RIGHT, y, LEFT - 8, y + 4, d);
    }
    for (size_t l = 0; l < n; l += step) {
        rp_text_put(text, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%zu</text>\n",
                    x_of(p, l), BOTTOM + 18, l);
    }
    rp_text_put(text, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">layer</text>\n",
                (LEFT + RIGHT) / 2, BOTTOM + 36);
}

static const char *dash_of(const series *s)
{
    return s->is_dashed ? " dash" : "";
}

static void put_legend(rp_text *text, size_t index)
{
    const series *s = &all_series[index];
    const int x = LEFT + 95 * (int)index;

    rp_text_put(text,
                "<polyline class=\"s%zu%s\" points=\"%d,18 %d,18\"/><text x=\"%d\" y=\"22\">%s"
                "</text>\n",
                index, dash_of(s), x, x + 28, x + 34, s->label);
}

/* A layer without this linear or without a loss leaves a gap in the line. */
static void put_line(rp_text *text, const plot *p, size_t index)
{
    const series *s = &all_series[index];
    bool is_open = false;

    for (size_t l = 0; l < json_array_size(p->layers); l++) {
        const double loss = loss_of(json_array_get(p->layers, l), s);
        if (loss > 0 && !is_open) {
            rp_text_put(text, "<polyline class=\"s%zu%s\" points=\"", index, dash_of(s));
        }
        if (loss > 0) {
            rp_text_put(text, " %.1f,%.1f", x_of(p, l), y_of(p, loss));
        } else if (is_open) {
            rp_text_put(text, "\"/>\n");
        }
        is_open = loss > 0;
    }
    rp_text_put(text, "%s", is_open ? "\"/>\n" : "");
}

static void put_points(rp_text *text, const plot *p, size_t index)
{
    const series *s = &all_series[index];

    for (size_t l = 0; l < json_array_size(p->layers); l++) {
        const double loss = loss_of(json_array_get(p->layers, l), s);
        if (loss > 0) {
            rp_text_put(text,
                        "<circle class=\"s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>layer %zu, "
                        "%s: %.3g</title></circle>\n",
                        index, x_of(p, l), y_of(p, loss), l, s->label, loss);
        }
    }
}

bool rp_chart_losses(rp_text *text, const json_t *layers)
{
    plot p = {.layers = layers};

    if (!set_scale(&p)) {
        return false;
    }
    rp_text_put(text, "<svg viewBox=\"0 0 760 %d\" role=\"img\" aria-label=\"loss by layer\">\n",
                BOTTOM + 44);
    put_axes(text, &p);
    for (size_t i = 0; i < RP_COUNT(all_series); i++) {
        put_legend(text, i);
        put_line(text, &p, i);
        put_points(text, &p, i);
    }
    rp_text_put(text, "</svg>\n");
    return true;
}
