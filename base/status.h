/* One status type, one way to make a failure, one message per thread.
 *
 * A function that can fail returns rp_status. Only RP_FAIL makes a failure, so that none is without
 * a message. RP_TRY expects a local `rp_status st` and a label `out`. The message is one line
 * without a final newline. */
#ifndef RP_BASE_STATUS_H
#define RP_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RP_CHECKED __attribute__((warn_unused_result))
#define RP_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#define RP_MESSAGE_BYTES 1024

/* Values double as indices of the exit code table in status.c (rp_status_exit_code). */
typedef enum rp_status {
    RP_OK = 0,
    RP_ERR_USAGE,    /* 64: command line */
    RP_ERR_FORMAT,   /* 65: an input file is not what its format says */
    RP_ERR_INTERNAL, /* 70: a fact about our own code did not hold */
    RP_ERR_MEMORY,   /* 71: no memory or device */
    RP_ERR_LOCKED,   /* 73: output folder in use by a live job */
    RP_ERR_IO,       /* 74: a read, write, fsync or rename failed; no space */
    RP_ERR_STOPPED,  /* 75: stopped on request, resumable */
    RP_ERR_PERM,     /* 77: permission */
    RP_ERR_CONFIG,   /* 78: job file */
    RP_ERR_GATE,     /* 1: done, but a gate failed */
    RP_ERR_PEER,     /* another rank failed; its own status is rp_error_peer_status() */
    RP_STATUS_COUNT
} rp_status;

/* Records "<printf message>" for this thread and yields `status`;
 * compilers and analysers learn that it is never RP_OK. */
#define RP_FAIL(status, ...)                                                                       \
    ({                                                                                             \
        const rp_status rp_failed = rp_error_set((status), __FILE__, __LINE__, __VA_ARGS__);       \
        if (rp_failed == RP_OK) {                                                                  \
            __builtin_unreachable();                                                               \
        }                                                                                          \
        rp_failed;                                                                                 \
    })

#define RP_TRY(call)                                                                               \
    do {                                                                                           \
        st = (call);                                                                               \
        if (st != RP_OK) {                                                                         \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

/* Facts about our own code, never about input. On in debug builds. */
#ifdef RP_DEBUG
#define RP_ASSERT(fact) ((fact) ? (void)0 : rp_assert_failed(#fact, __FILE__, __LINE__))
#elif defined(__clang_analyzer__)
#define RP_ASSERT(fact) ((fact) ? (void)0 : __builtin_unreachable())
#else
#define RP_ASSERT(fact) ((void)sizeof(fact))
#endif
void rp_assert_failed(const char *fact, const char *file, int line) __attribute__((noreturn));

/* Local. Prefer RP_FAIL. */
rp_status rp_error_set(rp_status status, const char *file, int line, const char *fmt, ...)
    RP_PRINTF(4, 5);
/* Local. Puts "<prefix>: " before the current message (to name the file or tensor at fault);
 * returns status. */
rp_status rp_error_prefix(rp_status status, const char *fmt, ...) RP_PRINTF(2, 3);
/* Local. The last message of this thread; "" if none; borrowed until the next failure. */
const char *rp_error_message(void);
/* Local. Source file:line where the last message was made, for the log. */
const char *rp_error_place(void);
/* Local. The failure that errno stands for: ENOMEM -> MEMORY, EACCES/EPERM/EROFS -> PERM, else IO.
 */
rp_status rp_status_from_errno(int errno_value);
/* Local. The status on the rank at fault when this rank has RP_ERR_PEER. */
rp_status rp_error_peer_status(void);
void rp_error_set_peer_status(rp_status status);
/* Local. sysexits-style process exit code (docs/guide.md); RP_ERR_PEER gives the code of the rank
 * at fault. */
int rp_status_exit_code(rp_status status);
/* Local. "format", "io" ... for logs. */
const char *rp_status_name(rp_status status);

#ifdef __cplusplus
}
#endif
#endif
