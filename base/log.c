/* One buffer a line, one write(2) a line: lines of several threads do not mix. */
#include "base/log.h"

#include "base/clock.h"
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 8192

/* The sink: the one mutable global of this kind (STYLE section 1). */
static struct {
    pthread_mutex_t mutex;
    int fd;
    int rank;
    rp_log_level level;
    double start_seconds;
} sink = {.mutex = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

typedef struct log_line {
    char text[LINE_BYTES];
    size_t n;
} log_line;

/* Keeps room for the end of the line: a longer one is cut inside a string, never inside the JSON.
 */
static void put(log_line *line, const char *text, size_t n)
{
    if (line->n + n <= LINE_BYTES - 8) {
        memcpy(line->text + line->n, text, n);
        line->n += n;
    }
}

static void put_string(log_line *line, const char *text)
{
    put(line, "\"", 1);
    for (const unsigned char *c = (const unsigned char *)text;
         *c != '\0' && line->n < LINE_BYTES - 256; c++) {
        char escaped[8];
        if (*c == '"' || *c == '\\') {
            escaped[0] = '\\';
            escaped[1] = (char)*c;
            put(line, escaped, 2);
        } else if (*c < 0x20) {
            put(line, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", *c));
        } else {
            put(line, (const char *)c, 1);
        }
    }
    put(line, "\"", 1);
}

static void put_field(log_line *line, const rp_log_field *field)
{
    char number[40];
    int n = 0;

    if (line->n > LINE_BYTES - 384) {
        return;
    }
    put(line, ",\"", 2);
    put(line, field->key, strnlen(field->key, 64));
    put(line, "\":", 2);
    switch (field->type) {
    case RP_LOG_TYPE_STR:
        if (field->str != NULL) {
            put_string(line, field->str);
            return;
        }
        n = snprintf(number, sizeof(number), "null");
        break;
    case RP_LOG_TYPE_I64:
        n = snprintf(number, sizeof(number), "%" PRId64, field->i64);
        break;
    case RP_LOG_TYPE_F64:
        n = isfinite(field->f64) ? snprintf(number, sizeof(number), "%.9g", field->f64)
                                 : snprintf(number, sizeof(number), "null");
        break;
    }
    put(line, number, (size_t)n);
}

rp_status rp_log_open(const char *path, int rank, rp_log_level level)
{
    const int fd =
        RP_FAULT("open") ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

    if (fd < 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot open the log: %s", path,
                       strerror(errno));
    }
    rp_log_close();
    pthread_mutex_lock(&sink.mutex);
    sink.fd = fd;
    sink.rank = rank;
    sink.level = level;
    sink.start_seconds = rp_clock_seconds();
    pthread_mutex_unlock(&sink.mutex);
    return RP_OK;
}

void rp_log_close(void)
{
    pthread_mutex_lock(&sink.mutex);
    if (sink.fd >= 0) {
        (void)close(sink.fd);
        sink.fd = -1;
    }
    pthread_mutex_unlock(&sink.mutex);
}

int rp_log_rank(void)
{
    int rank = -1;

    pthread_mutex_lock(&sink.mutex);
    rank = sink.fd >= 0 ? sink.rank : -1;
    pthread_mutex_unlock(&sink.mutex);
    return rank;
}

void rp_log_write(rp_log_level level, const rp_log_field *fields, int n_fields)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    log_line line = {.n = 0};
    int n = 0;

    pthread_mutex_lock(&sink.mutex);
    if (sink.fd >= 0 && level <= sink.level) {
        n = snprintf(line.text, LINE_BYTES, "{\"t\":%.6f,\"level\":\"%s\",\"rank\":%d",
                     rp_clock_seconds() - sink.start_seconds, names[level], sink.rank);
        line.n = (size_t)n;
        for (int i = 0; i < n_fields; i++) {
            put_field(&line, &fields[i]);
        }
        put(&line, "}\n", 2);
        /* A log that cannot be written is never the reason that a job ends. */
        const ssize_t written = RP_FAULT("log") ? -1 : write(sink.fd, line.text, line.n);
        (void)written;
    }
    pthread_mutex_unlock(&sink.mutex);
}
