/* The one place that knows what a piece consists of. */
#include "jobs/piece.h"

#include "base/mem.h"
#include "formats/bitpack.h"

enum { PACK_TILE_ROWS = 16 };

static const char *const kind_names[RP_PIECE_KIND_COUNT] = {"dense", "codes", "array", "text"};

const char *rp_piece_kind_name(rp_piece_kind kind)
{
    return kind_names[kind];
}

rp_piece rp_piece_of_form(const rp_form *rows, int64_t row0, int64_t total_rows)
{
    const bool is_codes = rows->kind == RP_FORM_CODES;

    return (rp_piece){.kind = is_codes ? RP_PIECE_CODES : RP_PIECE_DENSE,
                      .dtype = is_codes ? RP_U8 : RP_F32,
                      .row0 = row0,
                      .rows = rows->rows,
                      .total_rows = total_rows,
                      .cols = rows->cols,
                      .grid = rows->grid};
}

int rp_piece_parts(const rp_piece *piece, rp_piece_part out[RP_PIECE_MAX_PARTS])
{
    const rp_grid *grid = &piece->grid;
    const int64_t cols = piece->cols;

    switch (piece->kind) {
    case RP_PIECE_CODES:
        out[0] = (rp_piece_part){"packed_codes", RP_U8,
                                 rp_bits_words(cols, grid->bits) * (int64_t)sizeof(uint32_t), true};
        out[1] = (rp_piece_part){"params", RP_F32,
                                 rp_grid_ngroups(grid, cols) * grid->ops->n_params, true};
        return 2;
    case RP_PIECE_DENSE:
        out[0] = (rp_piece_part){"values", RP_F32, cols, true};
        return 1;
    default:
        out[0] = (rp_piece_part){"data", piece->dtype, 1, false};
        return 1;
    }
}

size_t rp_piece_part_row_bytes(const rp_piece_part *part)
{
    return (size_t)part->cols * rp_dtype_bytes(part->dtype);
}

size_t rp_piece_bytes(const rp_piece *piece)
{
    rp_piece_part parts[RP_PIECE_MAX_PARTS];
    const int n_parts = rp_piece_parts(piece, parts);
    size_t nbytes = 0;

    for (int i = 0; i < n_parts; i++) {
        nbytes += (size_t)piece->rows * rp_piece_part_row_bytes(&parts[i]);
    }
    return nbytes;
}

typedef struct packing {
    uint32_t *words;
    const rp_form *form;
} packing;

static void pack_tile(void *ctx, int64_t tile, int thread)
{
    const packing *p = ctx;
    const rp_form *form = p->form;
    const int64_t n_words = rp_bits_words(form->cols, form->grid.bits);
    const int64_t end = RP_MIN((tile + 1) * PACK_TILE_ROWS, form->rows);

    (void)thread;
    for (int64_t r = tile * PACK_TILE_ROWS; r < end; r++) {
        rp_bits_pack(p->words + r * n_words, form->codes + r * form->cols, form->cols,
                     form->grid.bits);
    }
}

rp_status rp_piece_pack_codes(void **out, const rp_form *form, rp_pool *pool)
{
    rp_status st = RP_OK;
    const int64_t n_words = rp_bits_words(form->cols, form->grid.bits);
    packing p = {.form = form};

    *out = NULL;
    RP_TRY(rp_alloc_array(&p.words, (size_t)(form->rows * n_words), sizeof(*p.words)));
    rp_pool_run(pool, RP_DIV_UP(form->rows, PACK_TILE_ROWS), pack_tile, &p);
    *out = p.words;
out:
    return st;
}

void rp_piece_unpack_codes(const rp_form *form, const void *packed)
{
    const int64_t n_words = rp_bits_words(form->cols, form->grid.bits);
    const uint32_t *words = packed;

    for (int64_t r = 0; r < form->rows && words != NULL; r++) {
        rp_bits_unpack(form->codes + r * form->cols, words + r * n_words, form->cols,
                       form->grid.bits);
    }
}
