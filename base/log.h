/* JSON-lines log, one file a rank: one object a line, flushed line by line so that a killed run
 * keeps all but its last line.
 *
 * {"t":1.234,"level":"info","rank":0,"event":"layer_done","layer":3,"seconds":1.2}
 * t: seconds since the log was opened. The sink is the process's; before rp_log_open and after
 * rp_log_close events go nowhere. Thread-safe. */
#ifndef RP_BASE_LOG_H
#define RP_BASE_LOG_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_log_level { RP_LOG_ERROR = 0, RP_LOG_WARN, RP_LOG_INFO, RP_LOG_DEBUG } rp_log_level;

typedef enum rp_log_type { RP_LOG_TYPE_STR, RP_LOG_TYPE_I64, RP_LOG_TYPE_F64 } rp_log_type;

typedef struct rp_log_field {
    const char *key; /* a plain word: not escaped */
    rp_log_type type;
    const char *str; /* NULL is null */
    int64_t i64;
    double f64; /* non-finite is null */
} rp_log_field;

static inline rp_log_field rp_log_str(const char *key, const char *value)
{
    const rp_log_field f = {key, RP_LOG_TYPE_STR, value, 0, 0};
    return f;
}
static inline rp_log_field rp_log_i64(const char *key, int64_t value)
{
    const rp_log_field f = {key, RP_LOG_TYPE_I64, NULL, value, 0};
    return f;
}
static inline rp_log_field rp_log_f64(const char *key, double value)
{
    const rp_log_field f = {key, RP_LOG_TYPE_F64, NULL, 0, value};
    return f;
}

/* RP_LOG(RP_LOG_INFO, "layer_done", rp_log_i64("layer", 3), rp_log_f64("seconds", s)); */
#define RP_LOG(level, event, ...)                                                                  \
    rp_log_write((level), (const rp_log_field[]){rp_log_str("event", (event)), ##__VA_ARGS__},     \
                 (int)(sizeof((rp_log_field[]){rp_log_str("event", (event)), ##__VA_ARGS__}) /     \
                       sizeof(rp_log_field)))

/* Local. Appends to the file; events above `level` are left out. */
RP_CHECKED rp_status rp_log_open(const char *path, int rank, rp_log_level level);
void rp_log_close(void);
/* Local. Whose log is open; -1: none. */
int rp_log_rank(void);
/* Local. Prefer RP_LOG. A write that fails is not reported: the log is never the reason that a job
 * ends. */
void rp_log_write(rp_log_level level, const rp_log_field *fields, int n_fields);

#ifdef __cplusplus
}
#endif
#endif
