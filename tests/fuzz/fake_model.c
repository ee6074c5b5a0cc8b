/* Three layers that compute something of the input and destroy it, behind the interface of a generated model.
   The Python twin is tests/link_model.py. */
#include <string.h>

#include "link/tinymbn_model.h"

enum {
    ROWS = 12,
    ROW_BYTES = 40,
    INPUT_BYTES = ROWS * ROW_BYTES,
    OUTPUT_BYTES = 5,
    ARENA_BYTES = 2 * INPUT_BYTES
};

static int8_t arena[ARENA_BYTES];
static const int8_t weights[3] = {3, -5, 7};
static const uint8_t table[ROW_BYTES] = {1, 4, 9, 16, 25, 36, 49, 64, 81, 100};
static const uint8_t sha256[32] = {0xDE, 0xAD, 0xBE, 0xEF, 1, 2, 3, 4};
static const tinymbn_constant constants[] = {{weights, sizeof weights}, {table, sizeof table}, {weights, 1}};
static const uint16_t first_constant[] = {0, 1, 1, 3}; /* the second layer has none */

static int8_t wrapped(int32_t value)
{
    const int32_t byte = value & 255;
    return (int8_t)(byte > 127 ? byte - 256 : byte);
}

/* Row by row from the arena's start to its second half; consumes what it read. */
static void scale(tinymbn_on_rows on_rows)
{
    for (int32_t row = 0; row < ROWS; row++) {
        int8_t *const from = arena + row * ROW_BYTES;
        int8_t *const to = from + INPUT_BYTES;
        for (int32_t i = 0; i < ROW_BYTES; i++) {
            to[i] = wrapped(from[i] * weights[0] + row);
            from[i] = 0;
        }
        if (on_rows) {
            on_rows(0, row, 1, to, ROW_BYTES);
        }
    }
}

/* Back to the arena's start, several rows a report. */
static void mix(tinymbn_on_rows on_rows)
{
    for (int32_t i = 0; i < INPUT_BYTES; i++) {
        arena[i] = wrapped(arena[INPUT_BYTES + i] ^ arena[INPUT_BYTES + (i + 7) % INPUT_BYTES]);
    }
    for (int32_t row = 0; row < ROWS && on_rows; row += 4) {
        on_rows(1, row, 4, arena + row * ROW_BYTES, ROW_BYTES);
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
        on_rows(2, 0, 1, arena + INPUT_BYTES, OUTPUT_BYTES);
    }
}

static void run_layer(int32_t layer, tinymbn_on_rows on_rows)
{
    if (layer == 0) {
        scale(on_rows);
    } else if (layer == 1) {
        mix(on_rows);
    } else {
        pool(on_rows);
    }
}

static void run_traced(const int8_t *input, int8_t *output, tinymbn_on_rows on_rows)
{
    if (input != arena) {
        memcpy(arena, input, INPUT_BYTES);
    }
    for (int32_t layer = 0; layer < 3; layer++) {
        run_layer(layer, on_rows);
    }
    memcpy(output, arena + INPUT_BYTES, OUTPUT_BYTES);
}

static void run(const int8_t *input, int8_t *output)
{
    run_traced(input, output, 0);
}

static int8_t *input(void)
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
    .run = run,
    .run_traced = run_traced,
    .run_layer = run_layer,
    .constants = constants,
    .first_constant = first_constant,
    .pixel = pixel,
    .output_scale_q20 = 4096000, /* 1000 * 2^20 / 256 */
    .output_zero = -128,
};
