/* Monotonic time. */
#ifndef RP_BASE_CLOCK_H
#define RP_BASE_CLOCK_H

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Seconds since an arbitrary start. */
double rp_clock_seconds(void);

#ifdef __cplusplus
}
#endif
#endif
