/* Feeds bytes to the board's receiver, frames and text alike. tests/fuzz/README.md says how to run it.

   The input is a list of pieces: a length byte L, a kind byte, then L bytes. Kind 0 feeds them as they are,
   kind 1 as a request with a right CRC (else the fuzzer would never get past it), kind 2 as a frame of any
   version and type, kind 3 lets time go by and sets its pace. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "board/board.h"
#include "link/frame.h"
#include "link/server.h"
#include "link/tinymbn_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { CYCLES_A_CALL = 1000003, MOST_RUNS = 20, REQUEST = FRAME_VERSION << 4 | FRAME_REQUEST };

static jmp_buf after_reset;
static uint32_t cycles;
static uint32_t milliseconds;
static uint32_t pace; /* eighths of milliseconds between two reports of rows */
static uint64_t written;
static board_fault fault_record;
static bool has_fault;

static uint32_t runs;

/* `infer 9999 9999` shall not make the fuzzer slow: after the first runs the output is left as it is. */
static void run_seldom(const int8_t *input, int8_t *output)
{
    if (runs < MOST_RUNS) {
        runs++;
        tinymbn_the_model.run(input, output);
    }
}

static void feed(const uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        server_receive(data[i]);
    }
}

/* Sequence, operation, status and payload as a frame that begins with this byte. */
static void feed_as_frame(uint8_t first, const uint8_t *data, uint32_t bytes)
{
    uint8_t plain[FRAME_HEADER_BYTES + 255 + FRAME_CRC_BYTES];
    if (bytes < 3u) {
        return;
    }
    frame_write_header(plain, 0u, data[0], data[1], data[2], bytes - 3u);
    plain[0] = first;
    memcpy(plain + FRAME_HEADER_BYTES, data + 3, bytes - 3u);
    frame_send(plain, FRAME_HEADER_BYTES + bytes - 3u, feed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const uint8_t sync[] = {1, 1, 0, 9, 9, 9, 9}; /* sequence, SYNC, sequence, nonce */
    static tinymbn_model model;
    volatile size_t at = 0; /* survives the longjmp of a reset */
    model = tinymbn_the_model;
    model.run = run_seldom;
    model.input_stays = bytes % 4 < 2; /* what text commands allow; where it lies does not matter here */
    runs = 0;
    cycles = 0;
    milliseconds = 0;
    pace = 0;
    written = 0;
    has_fault = bytes % 2 == 1;
    if (setjmp(after_reset) == 0) {
        server_start(&model);
        feed_as_frame(REQUEST, sync, sizeof sync);
    } else {
        server_start(&model);
    }
    while (at + 2 <= bytes) {
        const size_t left = bytes - at - 2;
        const uint32_t length = data[at] < left ? data[at] : (uint32_t)left;
        const uint8_t kind = data[at + 1] % 4;
        const uint8_t *const piece = data + at + 2;
        at = at + 2 + length;
        if (kind == 0) {
            feed(piece, length);
        } else if (kind == 1) {
            feed_as_frame(REQUEST, piece, length);
        } else if (kind == 2 && length > 0u) {
            feed_as_frame(piece[0], piece + 1, length - 1u);
        } else {
            pace = 1000u * length;
            milliseconds += 40u * (length + 1u);
            server_poll();
        }
    }
    if (written > 400u * 1000u * 1000u) {
        abort(); /* whatever comes, the board does not talk without end */
    }
    return 0;
}

void board_init(void)
{
}

uint32_t board_status(void)
{
    return 0u;
}

int board_read(void)
{
    return -1;
}

void board_wait(void)
{
}

void board_write(const uint8_t *data, uint32_t bytes)
{
    /* Reads every byte, so that the sanitizer sees them. */
    static volatile uint8_t sum;
    for (uint32_t i = 0; i < bytes; i++) {
        sum = (uint8_t)(sum + data[i]);
    }
    written += bytes;
}

void board_flush(void)
{
}

bool board_set_baud(uint32_t baud)
{
    return baud % 7u != 0u;
}

uint32_t board_cycles(void)
{
    cycles += CYCLES_A_CALL;
    milliseconds += pace; /* where the model computes; between bytes it would drop every frame */
    return cycles;
}

uint32_t board_milliseconds(void)
{
    return milliseconds++ / 8u;
}

uint32_t board_overruns(void)
{
    return 0u;
}

uint32_t board_stack_bytes(void)
{
    return 1u;
}

uint32_t board_stack_used(void)
{
    return 1u;
}

const board_fault *board_fault_read(void)
{
    return has_fault ? &fault_record : NULL;
}

void board_fault_clear(void)
{
    has_fault = false;
}

void board_reset(void)
{
    longjmp(after_reset, 1);
}
