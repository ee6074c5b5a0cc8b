/* Three layers that compute something of the input, behind the interface of a generated model: two that stream, whose
   rows alternate, and one as a whole. A run destroys what lies in the arena. The Python twin is tests/link_model.py. */
#include <string.h>

#include "link/tinymbn_model.h"

enum {
    ROWS = 12,
    ROW_BYTES = 40,
    INPUT_BYTES = ROWS * ROW_BYTES,
    OUTPUT_BYTES = 5,
    ARENA_BYTES = 2 * INPUT_BYTES,
    PIECE_BYTES = 15 /* of a row of mix that is reported at a time */
};

/* Whether the frame has a place of its own, which lasts for any number of runs, or lies in the arena. */
#ifndef INPUT_STAYS
#define INPUT_STAYS 1
#endif

static int8_t arena[ARENA_BYTES];
#if INPUT_STAYS
static int8_t frame[INPUT_BYTES];
#else
static int8_t *const frame = arena;
#endif
static const int8_t weights[3] = {3, -5, 7};
static const uint8_t table[ROW_BYTES] = {1, 4, 9, 16, 25, 36, 49, 64, 81, 100};
static const uint8_t sha256[32] = {0xDE, 0xAD, 0xBE, 0xEF, 1, 2, 3, 4};
static const tinymbn_constant constants[] = {{weights, sizeof weights}, {table, sizeof table}, {weights, 1}};
static const uint16_t first_constant[] = {0, 1, 1, 3}; /* the second layer has none */
static const uint16_t rows[] = {ROWS, ROWS, 1};

static int8_t wrapped(int32_t value)
{
    const int32_t byte = value & 255;
    return (int8_t)(byte > 127 ? byte - 256 : byte);
}

/* A row from the arena's start to its second half; consumes what it read. */
static void scale(int32_t row, tinymbn_on_rows on_rows)
{
    int8_t *const from = arena + row * ROW_BYTES;
    int8_t *const to = from + INPUT_BYTES;
    for (int32_t i = 0; i < ROW_BYTES; i++) {
        to[i] = wrapped(from[i] * weights[0] + row);
        from[i] = 0;
    }
    if (on_rows) {
        on_rows(0, row, 0, 0);
        on_rows(0, row, to, ROW_BYTES);
    }
}

/* A row of this one and the next, back to where this one came from; reported in several pieces. */
static void mix(int32_t row, tinymbn_on_rows on_rows)
{
    int8_t *const to = arena + row * ROW_BYTES;
    for (int32_t i = 0; i < ROW_BYTES; i++) {
        const int32_t at = row * ROW_BYTES + i;
        to[i] = wrapped(arena[INPUT_BYTES + at] ^ arena[INPUT_BYTES + (at + 7) % INPUT_BYTES]);
    }
    if (on_rows) {
        on_rows(1, row, 0, 0);
    }
    for (int32_t at = 0; at < ROW_BYTES && on_rows; at += PIECE_BYTES) {
        on_rows(1, row, to + at, ROW_BYTES - at < PIECE_BYTES ? ROW_BYTES - at : PIECE_BYTES);
    }
}

static void pool(tinymbn_on_rows on_rows)
{
    for (int32_t k = 0; k < OUTPUT_BYTES; k++) {
        int32_t sum = 0;
        for (int32_t i = k; i < INPUT_BYTES; i += OUTPUT_BYTES) {
            sum += arena[i] * weights[2];
        }
        arena[INPUT_BYTES + k] = wrapped(sum);
    }
    if (on_rows) {
        on_rows(2, 0, 0, 0);
        on_rows(2, 0, arena + INPUT_BYTES, OUTPUT_BYTES);
    }
}

static void run_rows(int32_t layer, int32_t first, int32_t count, tinymbn_on_rows on_rows)
{
    for (int32_t row = first; row < first + count; row++) {
        if (layer == 0) {
            scale(row, on_rows);
        } else if (layer == 1) {
            mix(row, on_rows);
        } else {
            pool(on_rows);
        }
    }
}

static void run_traced(const int8_t *input, int8_t *output, tinymbn_on_rows on_rows)
{
    if (input != arena) {
        memcpy(arena, input, INPUT_BYTES);
    }
    scale(0, on_rows);
    for (int32_t row = 0; row < ROWS; row++) {
        if (row + 1 < ROWS) {
            scale(row + 1, on_rows);
        }
        mix(row, on_rows);
    }
    pool(on_rows);
    memcpy(output, arena + INPUT_BYTES, OUTPUT_BYTES);
}

static void run(const int8_t *input, int8_t *output)
{
    run_traced(input, output, 0);
}

static int8_t *input(void)
{
    return frame;
}

static int8_t *place(void)
{
    return arena;
}

static int8_t pixel(uint8_t value, uint32_t index)
{
    (void)index;
    return (int8_t)(value - 128);
}

const tinymbn_model tinymbn_the_model = {
    .name = "vww01",
    .options = "tests: a name of more than one hundred and thirteen bytes does not fit the smallest frame, "
               "so that the "
               "description has to come in pieces, as it does here",
    .version = "0.0.test",
    .sha256 = sha256,
    .input_bytes = INPUT_BYTES,
    .output_bytes = OUTPUT_BYTES,
    .arena_bytes = ARENA_BYTES,
    .layers = 3,
    .arena = arena,
    .input = input,
    .input_stays = INPUT_STAYS,
    .place = place,
    .run = run,
    .run_traced = run_traced,
    .run_rows = run_rows,
    .rows = rows,
    .constants = constants,
    .first_constant = first_constant,
    .pixel = pixel,
    .output_scale_q20 = 4096000, /* 1000 * 2^20 / 256 */
    .output_zero = -128,
};
