/* When to print: on a terminal at most ten times a second, elsewhere every 30 s; to the log every
 * 10 s. The clock is read on each update, so callers may update as often as they like. */
#include "base/progress.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TERMINAL_SECONDS 0.1
#define LINES_SECONDS 30.0
#define LOG_SECONDS 10.0

struct rp_progress {
    FILE *stream;
    char *what, *unit;
    double total;
    double first, done; /* units; first: where this run began to count */
    double start_seconds, shown_seconds, logged_seconds;
    bool is_terminal, is_started;
    int shown_chars; /* of the line on the terminal now */
};

void rp_progress_format_seconds(char *out, size_t out_bytes, double seconds)
{
    const long s = lround(seconds);

    if (s < 100) {
        (void)snprintf(out, out_bytes, "%ld s", s);
    } else if (s < 6000) {
        (void)snprintf(out, out_bytes, "%ld min %02ld s", s / 60, s % 60);
    } else {
        (void)snprintf(out, out_bytes, "%ld h %02ld min", s / 3600, s / 60 % 60);
    }
}

/* Units a second since this run began to count; 0: none yet. */
static double rate_of(const rp_progress *p, double now)
{
    const double seconds = now - p->start_seconds;

    return seconds > 0 ? (p->done - p->first) / seconds : 0;
}

static void format_line(const rp_progress *p, double now, char *out, size_t out_bytes)
{
    const double rate = rate_of(p, now);
    char left[32];
    int n = snprintf(out, out_bytes, "%s  %.0f/%.0f %s  %.0f %%", p->what, floor(p->done), p->total,
                     p->unit, floor(100 * p->done / p->total));

    if (rate > 0 && n > 0 && (size_t)n < out_bytes) {
        rp_progress_format_seconds(left, sizeof(left), (p->total - p->done) / rate);
        (void)snprintf(out + n, out_bytes - (size_t)n, "  %.3g %s/s  about %s left", rate, p->unit,
                       left);
    }
}

/* Shows text in place of the terminal's line; spaces cover what is left of a longer one. */
static void show(rp_progress *p, const char *text, bool is_final)
{
    const int n = (int)strlen(text);

    if (p->is_terminal) {
        (void)fprintf(p->stream, "\r%s%*s", text, RP_MAX(p->shown_chars - n, 0), "");
        if (is_final) {
            (void)fputc('\n', p->stream);
        }
        p->shown_chars = is_final ? 0 : n;
    } else {
        (void)fprintf(p->stream, "%s\n", text);
    }
    (void)fflush(p->stream);
}

rp_status rp_progress_create(rp_progress **out, FILE *stream, const char *what, const char *unit,
                             double total)
{
    rp_status st = RP_OK;
    rp_progress *p = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&p, 1, sizeof(*p)));
    p->stream = stream;
    p->total = total;
    p->is_terminal = stream != NULL && isatty(fileno(stream)) != 0;
    RP_TRY(rp_strdup(&p->what, what));
    RP_TRY(rp_strdup(&p->unit, unit));
    p->start_seconds = p->shown_seconds = rp_clock_seconds();
    *out = p;
    p = NULL;
out:
    if (p != NULL) {
        free(p->what);
        free(p->unit);
        free(p);
    }
    return st;
}

static void log_progress(rp_progress *p, double now)
{
    const double rate = rate_of(p, now);

    p->logged_seconds = now;
    if (rp_log_rank() == 0) {
        RP_LOG(RP_LOG_INFO, "progress", rp_log_str("what", p->what), rp_log_str("unit", p->unit),
               rp_log_f64("done", p->done), rp_log_f64("total", p->total),
               rp_log_f64("per_second", rate));
    }
}

void rp_progress_update(rp_progress *progress, double done)
{
    char line[256];
    double now = 0;

    if (progress == NULL) {
        return;
    }
    now = rp_clock_seconds();
    progress->done = done;
    if (!progress->is_started) {
        progress->is_started = true;
        progress->first = done;
        progress->start_seconds = now;
        log_progress(progress, now);
    } else if (now - progress->logged_seconds >= LOG_SECONDS) {
        log_progress(progress, now);
    }
    if (progress->stream == NULL ||
        now - progress->shown_seconds <
            (progress->is_terminal ? TERMINAL_SECONDS : LINES_SECONDS)) {
        return;
    }
    progress->shown_seconds = now;
    format_line(progress, now, line, sizeof(line));
    show(progress, line, false);
}

void rp_progress_note(rp_progress *progress, const char *text)
{
    if (progress != NULL && progress->stream != NULL) {
        show(progress, text, true);
        progress->shown_seconds -= TERMINAL_SECONDS;
    }
}

void rp_progress_finish(rp_progress **progress)
{
    rp_progress *p = *progress;
    char line[256];
    char took[32];

    if (p == NULL) {
        return;
    }
    if (p->stream != NULL && p->done < p->total) {
        if (p->is_terminal) { /* broken off: the reason comes next, on a line of its own */
            show(p, "", false);
            (void)fputc('\r', p->stream);
        }
    } else if (p->stream != NULL) {
        rp_progress_format_seconds(took, sizeof(took), rp_clock_seconds() - p->start_seconds);
        (void)snprintf(line, sizeof(line), "%s  %.0f/%.0f %s  %s", p->what, floor(p->done),
                       p->total, p->unit, took);
        show(p, line, true);
    }
    free(p->what);
    free(p->unit);
    free(p);
    *progress = NULL;
}
