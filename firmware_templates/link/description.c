/* What HELLO and MODEL tell: see description.h. */
#include "description.h"

#include "../board/board.h"
#include "bytes.h"
#include "frame.h"
#include "link_config.h"
#include "protocol.h"

enum {
    CREDITS = 1, /* WRITEs that may be under way unanswered */
    DOUBLE_ROUNDING = 1, /* the one arithmetic of tinymbn: TFLite's reference kernels */
    FEATURE_DSP = 1,
    FEATURE_MVE = 2,
    FEATURE_HARD_FLOAT = 4,
    SHA256_BYTES = 32,
};

/* A text longer than a frame, sent in pieces: what falls outside the piece asked for is counted alone. */
typedef struct {
    uint32_t skip;
    uint32_t total;
    message_writer *reply;
} pieces;

static void piece_put(pieces *text, const void *data, uint32_t bytes)
{
    const uint8_t *const from = data;
    for (uint32_t i = 0; i < bytes; i++) {
        if (text->total >= text->skip) {
            message_put(text->reply, from + i, 1u);
        }
        text->total++;
    }
}

static void piece_put_u32(pieces *text, uint32_t value)
{
    uint8_t field[4];
    bytes_put_u32(field, value);
    piece_put(text, field, sizeof field);
}

/* A string with its terminating zero. */
static void piece_put_string(pieces *text, const char *string)
{
    for (; *string != '\0'; string++) {
        piece_put(text, string, 1u);
    }
    piece_put(text, string, 1u);
}

static uint32_t features(void)
{
    uint32_t found = 0;
#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
    found |= FEATURE_DSP;
#endif
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE
    found |= FEATURE_MVE;
#endif
#if defined(__ARM_PCS_VFP)
    found |= FEATURE_HARD_FLOAT;
#endif
    return found;
}

static void tell_firmware(const tinymbn_model *model, pieces *text)
{
    static const uint8_t magic[4] = {'t', 'm', 'b', 'n'};
    const uint8_t small[5] = {FRAME_VERSION, FRAME_VERSION, CREDITS, DOUBLE_ROUNDING, BOARD_COUNTER_BITS};
    piece_put(text, magic, sizeof magic);
    piece_put(text, small, sizeof small);
    piece_put_u32(text, LINK_RX_MAX);
    piece_put_u32(text, BOARD_CLOCK_HZ);
    piece_put_u32(text, BOARD_COUNTER_HZ);
    piece_put_u32(text, board_status());
    piece_put_u32(text, features());
    piece_put_string(text, model->version);
    piece_put_string(text, BOARD_NAME);
    piece_put_string(text, BOARD_CORE);
    piece_put_string(text, BOARD_COUNTER_NAME);
}

static void tell_model(const tinymbn_model *model, pieces *text)
{
    piece_put(text, model->sha256, SHA256_BYTES);
    piece_put_u32(text, model->input_bytes);
    piece_put_u32(text, model->output_bytes);
    piece_put_u32(text, model->arena_bytes);
    piece_put_u32(text, (uint32_t)model->layers);
    piece_put_string(text, model->name);
    piece_put_string(text, model->options);
}

uint8_t description_piece(const tinymbn_model *model, description_subject subject, message_reader *arguments,
                          message_writer *reply)
{
    pieces text = {message_take_u16(arguments), 0u, reply};
    if (!message_complete(arguments)) {
        return STATUS_BAD_ARGUMENT;
    }
    message_put_u16(reply, 0u);
    if (subject == DESCRIPTION_OF_FIRMWARE) {
        tell_firmware(model, &text);
    } else {
        tell_model(model, &text);
    }
    bytes_put_u16(reply->data, text.total);
    return STATUS_OK;
}
