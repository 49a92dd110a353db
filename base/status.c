/* Thread-local failure message and the table from status to exit code. */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int exit_code;
} status_table[RP_STATUS_COUNT] = {
    [RP_OK] = {"ok", 0},
    [RP_ERR_USAGE] = {"usage", 64},
    [RP_ERR_FORMAT] = {"format", 65},
    [RP_ERR_INTERNAL] = {"internal", 70},
    [RP_ERR_MEMORY] = {"memory", 71},
    [RP_ERR_LOCKED] = {"locked", 73},
    [RP_ERR_IO] = {"io", 74},
    [RP_ERR_STOPPED] = {"stopped", 75},
    [RP_ERR_PERM] = {"permission", 77},
    [RP_ERR_CONFIG] = {"config", 78},
    [RP_ERR_GATE] = {"gate", 1},
    [RP_ERR_PEER] = {"peer", 70},
};

static _Thread_local char error_message[RP_MESSAGE_BYTES];
static _Thread_local char error_place[128];
static _Thread_local rp_status error_peer_status = RP_ERR_INTERNAL;

rp_status rp_error_set(rp_status status, const char *file, int line, const char *fmt, ...)
{
    /* Formatted aside first: an argument may be the current message itself. */
    char text[RP_MESSAGE_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) { /* names from files may hold anything */
            *c = ' ';
        }
    }
    memcpy(error_message, text, sizeof(error_message));
    (void)snprintf(error_place, sizeof(error_place), "%s:%d", file, line);
    return status == RP_OK ? RP_ERR_INTERNAL : status;
}

rp_status rp_error_prefix(rp_status status, const char *fmt, ...)
{
    char prefix[RP_MESSAGE_BYTES / 2];
    char text[2 * RP_MESSAGE_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(prefix, sizeof(prefix), fmt, args);
    va_end(args);
    (void)snprintf(text, sizeof(text), "%s: %s", prefix, error_message);
    memcpy(error_message, text, sizeof(error_message) - 1);
    error_message[sizeof(error_message) - 1] = '\0';
    return status;
}

const char *rp_error_message(void)
{
    return error_message;
}

const char *rp_error_place(void)
{
    return error_place;
}

rp_status rp_error_peer_status(void)
{
    return error_peer_status;
}

void rp_error_set_peer_status(rp_status status)
{
    error_peer_status = status;
}

rp_status rp_status_from_errno(int errno_value)
{
    switch (errno_value) {
    case ENOMEM:
        return RP_ERR_MEMORY;
    case EACCES:
    case EPERM:
    case EROFS:
        return RP_ERR_PERM;
    default:
        return RP_ERR_IO;
    }
}

int rp_status_exit_code(rp_status status)
{
    if (status == RP_ERR_PEER && error_peer_status != RP_ERR_PEER) {
        status = error_peer_status;
    }
    return (unsigned)status < RP_STATUS_COUNT ? status_table[status].exit_code : 70;
}

const char *rp_status_name(rp_status status)
{
    return (unsigned)status < RP_STATUS_COUNT ? status_table[status].name : "unknown";
}

void rp_assert_failed(const char *fact, const char *file, int line)
{
    (void)fprintf(stderr, "rankpress: %s:%d: internal fact does not hold: %s\n", file, line, fact);
    abort();
}
