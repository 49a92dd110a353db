/* See arena.h. Pieces are a list by offset that covers the whole arena. */
#include "kernels/arena.h"

#include "base/mem.h"

#include <stdlib.h>

typedef struct piece {
    size_t begin, nbytes;
    bool is_taken;
    struct piece *next;
} piece;

struct rp_arena {
    piece *first;
    size_t taken_bytes, peak_bytes, total_bytes;
};

static rp_status make_piece(piece **out, size_t begin, size_t nbytes, piece *next)
{
    rp_status st = RP_OK;

    RP_TRY(rp_calloc(out, 1, sizeof(**out)));
    (*out)->begin = begin;
    (*out)->nbytes = nbytes;
    (*out)->next = next;
out:
    return st;
}

rp_status rp_arena_create(rp_arena **out, size_t nbytes)
{
    rp_status st = RP_OK;
    rp_arena *arena = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&arena, 1, sizeof(*arena)));
    arena->total_bytes = nbytes / RP_ARENA_ALIGNMENT * RP_ARENA_ALIGNMENT;
    RP_TRY(make_piece(&arena->first, 0, arena->total_bytes, NULL));
    *out = arena;
    arena = NULL;
out:
    rp_arena_destroy(&arena);
    return st;
}

void rp_arena_destroy(rp_arena **arena)
{
    if (*arena == NULL) {
        return;
    }
    for (piece *p = (*arena)->first, *next; p != NULL; p = next) {
        next = p->next;
        free(p);
    }
    free(*arena);
    *arena = NULL;
}

static rp_status no_room(const rp_arena *arena, size_t nbytes)
{
    size_t largest = 0;

    for (const piece *p = arena->first; p != NULL; p = p->next) {
        if (!p->is_taken && p->nbytes > largest) {
            largest = p->nbytes;
        }
    }
    return RP_FAIL(RP_ERR_MEMORY, "wanted %zu bytes of an arena of %zu: %zu left, %zu in one piece",
                   nbytes, arena->total_bytes, arena->total_bytes - arena->taken_bytes, largest);
}

rp_status rp_arena_take(size_t *offset, rp_arena *arena, size_t nbytes)
{
    rp_status st = RP_OK;
    const size_t want = nbytes <= RP_ARENA_ALIGNMENT ? RP_ARENA_ALIGNMENT
                        : nbytes > SIZE_MAX - RP_ARENA_ALIGNMENT
                            ? SIZE_MAX
                            : RP_DIV_UP(nbytes, RP_ARENA_ALIGNMENT) * RP_ARENA_ALIGNMENT;
    piece *found = arena->first;

    *offset = 0;
    while (found != NULL && (found->is_taken || found->nbytes < want)) {
        found = found->next;
    }
    if (found == NULL) {
        return no_room(arena, nbytes);
    }
    if (found->nbytes > want) {
        RP_TRY(make_piece(&found->next, found->begin + want, found->nbytes - want, found->next));
        found->nbytes = want;
    }
    found->is_taken = true;
    arena->taken_bytes += want;
    arena->peak_bytes = RP_MAX(arena->peak_bytes, arena->taken_bytes);
    *offset = found->begin;
out:
    return st;
}

/* Joins a free piece with a free one behind it. */
static void join_next(piece *p)
{
    piece *const next = p->next;

    if (!p->is_taken && next != NULL && !next->is_taken) {
        p->nbytes += next->nbytes;
        p->next = next->next;
        free(next);
    }
}

void rp_arena_give(rp_arena *arena, size_t offset)
{
    piece *before = NULL, *p = arena->first;

    while (p != NULL && p->begin != offset) {
        before = p;
        p = p->next;
    }
    RP_ASSERT(p != NULL && p->is_taken);
    if (p == NULL) {
        return;
    }
    p->is_taken = false;
    arena->taken_bytes -= p->nbytes;
    join_next(p);
    if (before != NULL) {
        join_next(before);
    }
}

size_t rp_arena_taken_bytes(const rp_arena *arena)
{
    return arena->taken_bytes;
}

size_t rp_arena_peak_bytes(const rp_arena *arena)
{
    return arena->peak_bytes;
}
