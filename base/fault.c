/* One armed fault point and a table of counts; see sqlite's fault.c for the habit. */
#include "base/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SLOW_NANOSECONDS 20000000
#define MAX_POINTS 4096 /* that a trace tells apart; a power of two */

typedef struct fault_action {
    const char *name;
    int error;  /* errno of a failure; 0: none */
    int signal; /* to the process itself; 0: none */
} fault_action;

static const fault_action actions[] = {
    {"EIO", EIO, 0},      {"ENOSPC", ENOSPC, 0}, {"EDQUOT", EDQUOT, 0}, {"EACCES", EACCES, 0},
    {"EROFS", EROFS, 0},  {"ENOMEM", ENOMEM, 0}, {"slow", 0, 0},        {"kill", 0, SIGKILL},
    {"term", 0, SIGTERM}, {"stop", 0, SIGSTOP},
};

typedef struct fault_point {
    const char *kind, *site;
    int64_t n;
} fault_point;

bool rp_fault_is_on;
static struct {
    bool is_armed, is_tracing, for_ever;
    char kind[32], site[96]; /* site "": any */
    int64_t first;
    const fault_action *action;
    _Atomic int64_t hits;
    pthread_mutex_t lock;
    fault_point points[MAX_POINTS]; /* under lock */
} faults = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void arm(const char *kind, const char *site, int64_t first, bool for_ever,
                const fault_action *action)
{
    rp_fault_is_on = false;
    (void)snprintf(faults.kind, sizeof(faults.kind), "%s", kind);
    (void)snprintf(faults.site, sizeof(faults.site), "%s", site);
    faults.first = first;
    faults.for_ever = for_ever;
    faults.action = action;
    faults.is_armed = *kind != '\0';
    atomic_store(&faults.hits, 0);
    rp_fault_is_on = faults.is_armed || faults.is_tracing;
}

void rp_fault_arm(const char *kind, int64_t first, bool for_ever)
{
    arm(kind == NULL ? "" : kind, "", first, for_ever, &actions[0]);
}

static const fault_action *find_action(const char *name)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(name, actions[i].name) == 0) {
            return &actions[i];
        }
    }
    return NULL;
}

rp_status rp_fault_arm_text(const char *text)
{
    char kind[32] = "";
    char file[80] = "";
    char site[96] = "";
    char words[2][8] = {"", ""};
    long long line = 0;
    long long first = 0;
    int at = 0;
    bool is_good = sscanf(text, "%31[a-z0-9_]%n", kind, &at) == 1;
    const fault_action *action = &actions[0];
    int n_words = 0;
    bool for_ever = false;

    text += at;
    if (is_good && *text == '@') {
        is_good = sscanf(text, "@%79[^:]:%lld%n", file, &line, &at) == 2;
        (void)snprintf(site, sizeof(site), "%s:%lld", file, line);
        text += at;
    }
    n_words = is_good ? sscanf(text, ":%lld:%7[^:]:%7s", &first, words[0], words[1]) - 1 : -1;
    is_good = n_words >= 0 && first >= 1;
    for (int i = 0; i < n_words && is_good; i++) {
        if (i == 0 && strcmp(words[i], "every") == 0) {
            for_ever = true;
            continue;
        }
        action = find_action(words[i]);
        is_good = action != NULL && i + 1 == n_words;
    }
    if (!is_good) {
        return RP_FAIL(RP_ERR_USAGE, "fault point: want kind[@file:line]:first[:every][:what]");
    }
    arm(kind, site, first, for_ever, action);
    return RP_OK;
}

static void count_point(const char *kind, const char *site)
{
    uint32_t at = 2166136261u; /* FNV-1a */

    for (const char *c = site; *c != '\0'; c++) {
        at = (at ^ (unsigned char)*c) * 16777619u;
    }
    (void)pthread_mutex_lock(&faults.lock);
    for (int i = 0; i < MAX_POINTS; i++) {
        fault_point *p = &faults.points[(at + (uint32_t)i) % MAX_POINTS];
        if (p->n == 0 || (strcmp(p->site, site) == 0 && strcmp(p->kind, kind) == 0)) {
            p->kind = kind;
            p->site = site;
            p->n++;
            break;
        }
    }
    (void)pthread_mutex_unlock(&faults.lock);
}

static bool act(const fault_action *action)
{
    const struct timespec moment = {.tv_nsec = SLOW_NANOSECONDS};

    if (action->signal != 0) {
        (void)raise(action->signal);
    } else if (action->error == 0) {
        (void)nanosleep(&moment, NULL);
    }
    errno = action->error;
    return action->error != 0;
}

bool rp_fault_hit(const char *kind, const char *site)
{
    int64_t n = 0;

    if (faults.is_tracing) {
        count_point(kind, site);
    }
    if (!faults.is_armed || (strcmp(kind, faults.kind) != 0 && strcmp("any", faults.kind) != 0) ||
        (faults.site[0] != '\0' && strcmp(site, faults.site) != 0)) {
        return false;
    }
    n = atomic_fetch_add(&faults.hits, 1) + 1;
    return (n == faults.first || (faults.for_ever && n > faults.first)) && act(faults.action);
}

int64_t rp_fault_count(void)
{
    return atomic_load(&faults.hits);
}

void rp_fault_trace(void)
{
    faults.is_tracing = true;
    rp_fault_is_on = true;
}

rp_status rp_fault_write_trace(const char *path)
{
    FILE *file = fopen(path, "we");
    bool is_good = file != NULL;

    (void)pthread_mutex_lock(&faults.lock);
    for (int i = 0; i < MAX_POINTS && is_good; i++) {
        const fault_point *p = &faults.points[i];
        is_good = p->n == 0 || fprintf(file, "%s %s %" PRId64 "\n", p->kind, p->site, p->n) > 0;
    }
    (void)pthread_mutex_unlock(&faults.lock);
    if (file == NULL || fclose(file) != 0 || !is_good) {
        return RP_FAIL(RP_ERR_IO, "%s: cannot write the trace: %s", path, strerror(errno));
    }
    return RP_OK;
}
