/* The text commands of MLPerf Tiny: see docs/link.md. Every command ends with exactly one m-ready. */
#include "text.h"

#include <string.h>

#include "../board/board.h"
#include "run.h"

enum {
    WARMUPS = 10, /* where `infer` does not say */
    MOST_INFERENCES = 1000000, /* a run of the official runner lasts 10 s at least */
    BUFFER_LINE_BYTES = 8,
    MICROSECONDS_DIGITS = 6,
};

typedef struct {
    const uint8_t *at;
    uint32_t bytes;
} word;

typedef enum {
    INPUT_NONE, /* nothing loaded, or overwritten through frames */
    INPUT_LOADED, /* whole, in the frame's place */
    INPUT_RUN, /* was run, which destroyed it; its output is kept */
} input_state;

static struct {
    input_state input;
    uint32_t expected; /* bytes of `db load` */
    uint32_t loaded;
    uint32_t last_ticks;
    uint32_t ticks; /* of the second that runs */
    uint32_t seconds;
} text;

/* Letter by letter: the UART is slower, and the firmware has no strlen. */
static void say(const char *string)
{
    for (; *string != '\0'; string++) {
        board_write((const uint8_t *)string, 1u);
    }
}

static void say_number(uint32_t number)
{
    char digits[10];
    uint32_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + (char)(number % 10u));
        number /= 10u;
    } while (number > 0u);
    board_write((const uint8_t *)digits + at, (uint32_t)sizeof digits - at);
}

static void say_hex(uint8_t byte)
{
    static const char digit[] = "0123456789abcdef";
    const uint8_t both[2] = {(uint8_t)digit[byte >> 4], (uint8_t)digit[byte & 15u]};
    board_write(both, sizeof both);
}

/* "e-[" reason "what" "]": what went wrong. */
static void say_error(const char *reason, word what)
{
    say("e-[");
    say(reason);
    board_write(what.at, what.bytes);
    say("]\r\n");
}

/* Thousandths of a real number, "0.023", as printf's %0.3f writes it. */
static void say_thousandths(int32_t thousandths)
{
    uint32_t size = (uint32_t)thousandths;
    if (thousandths < 0) {
        say("-");
        size = 0u - size;
    }
    say_number(size / 1000u);
    const uint32_t rest = size % 1000u;
    const uint8_t digits[4] = {'.', (uint8_t)('0' + rest / 100u), (uint8_t)('0' + rest / 10u % 10u),
                               (uint8_t)('0' + rest % 10u)};
    board_write(digits, sizeof digits);
}

void text_poll(void)
{
    const uint32_t now = board_cycles();
    const uint32_t passed = (now - text.last_ticks) & (0xFFFFFFFFu >> (32 - BOARD_COUNTER_BITS));
    text.last_ticks = now;
    uint32_t left = passed;
    /* Whole seconds by subtraction, a few hundred times at most; ticks + left may exceed 32 bits. */
    while (left >= BOARD_COUNTER_HZ - text.ticks) {
        left -= BOARD_COUNTER_HZ - text.ticks;
        text.ticks = 0;
        text.seconds++;
    }
    text.ticks += left;
}

/* Microseconds since the start, modulo 2^32 (71 minutes). */
static uint32_t lap(void)
{
    text_poll();
    uint32_t microseconds = text.seconds;
    /* < BOARD_COUNTER_HZ. Long division, digit by digit: a small core has no 64-bit divide. */
    uint64_t rest = text.ticks;
    for (int i = 0; i < MICROSECONDS_DIGITS; i++) {
        rest = (rest << 3) + (rest << 1);
        microseconds *= 10u;
        while (rest >= BOARD_COUNTER_HZ) {
            rest -= BOARD_COUNTER_HZ;
            microseconds++;
        }
    }
    return microseconds;
}

static void say_lap(void)
{
    const uint32_t now = lap();
    say("m-lap-us-");
    say_number(now);
    say("\r\n");
}

static word next_word(word *rest)
{
    while (rest->bytes > 0u && *rest->at == ' ') {
        rest->at++;
        rest->bytes--;
    }
    word found = {rest->at, 0u};
    while (rest->bytes > 0u && *rest->at != ' ') {
        rest->at++;
        rest->bytes--;
        found.bytes++;
    }
    return found;
}

static bool is(word found, const char *string)
{
    for (uint32_t i = 0; i < found.bytes; i++) {
        if (string[i] == '\0' || (uint8_t)string[i] != found.at[i]) {
            return false;
        }
    }
    return string[found.bytes] == '\0';
}

/* A decimal number of at most nine digits; false for anything else. */
static bool read_number(word digits, uint32_t *number)
{
    *number = 0;
    if (digits.bytes == 0u || digits.bytes > 9u) {
        return false;
    }
    for (uint32_t i = 0; i < digits.bytes; i++) {
        if (digits.at[i] < '0' || digits.at[i] > '9') {
            return false;
        }
        *number = *number * 10u + (uint32_t)(digits.at[i] - '0');
    }
    return true;
}

/* 0..15, or 16 for what is no hexadecimal digit. */
static uint32_t hex_digit(uint8_t letter)
{
    if (letter >= '0' && letter <= '9') {
        return (uint32_t)(letter - '0');
    }
    const uint8_t lower = letter | 0x20u;
    return lower >= 'a' && lower <= 'f' ? (uint32_t)(lower - 'a') + 10u : 16u;
}

static void load(const tinymbn_model *model, word count)
{
    uint32_t bytes;
    if (!read_number(count, &bytes) || bytes == 0u) {
        say_error("db load: how many bytes, at least 1, not ", count);
        return;
    }
    if (bytes > model->input_bytes) {
        say("e-[db load: ");
        say_number(bytes);
        say(" bytes exceed the input's ");
        say_number(model->input_bytes);
        say("]\r\n");
        return;
    }
    text.input = INPUT_NONE;
    text.expected = bytes;
    text.loaded = 0;
    say("m-[Expecting ");
    say_number(bytes);
    say(" bytes]\r\n");
}

static void load_bytes(const tinymbn_model *model, word digits)
{
    if (text.loaded >= text.expected) {
        say_error("db: no db load before ", digits);
        return;
    }
    if (digits.bytes % 2u != 0u) {
        say_error("db: odd number of hexadecimal digits: ", digits);
        return;
    }
    for (uint32_t i = 0; i < digits.bytes; i++) {
        if (hex_digit(digits.at[i]) > 15u) {
            say_error("db: not hexadecimal: ", digits); /* before any byte of them is stored */
            return;
        }
    }
    int8_t *const input = model->input();
    for (uint32_t i = 0; i < digits.bytes && text.loaded < text.expected; i += 2u) {
        const uint32_t pixel = hex_digit(digits.at[i]) << 4 | hex_digit(digits.at[i + 1u]);
        input[text.loaded] = model->pixel((uint8_t)pixel, text.loaded);
        text.loaded++;
    }
    if (text.loaded == text.expected) {
        text.input = INPUT_LOADED;
        say("m-load-done\r\n");
    }
}

/* The pixel that an input byte stands for: the least one that becomes it. */
static uint8_t pixel_of(const tinymbn_model *model, uint32_t index)
{
    const int8_t value = model->input()[index];
    uint8_t pixel = 0u;
    while (pixel < 255u && model->pixel(pixel, index) != value) {
        pixel++;
    }
    return pixel;
}

static void print_buffer(const tinymbn_model *model)
{
    const word nothing = {(const uint8_t *)"", 0u};
    if (text.input != INPUT_LOADED) {
        say_error("db print: nothing is loaded, or an inference used it up", nothing);
        return;
    }
    for (uint32_t i = 0; i < text.loaded; i++) {
        const bool ends = (i + 1u) % BUFFER_LINE_BYTES == 0u || i + 1u == text.loaded;
        if (i % BUFFER_LINE_BYTES == 0u) {
            say("m-buffer-");
        }
        say_hex(pixel_of(model, i));
        say(ends ? "\r\n" : "-");
    }
}

static void manage_buffer(const tinymbn_model *model, word rest)
{
    const word action = next_word(&rest);
    if (action.bytes == 0u) {
        say_error("db: load, print or hexadecimal digits", action);
    } else if (is(action, "load")) {
        load(model, next_word(&rest));
    } else if (is(action, "print")) {
        print_buffer(model);
    } else {
        load_bytes(model, action);
    }
}

static void say_results(const tinymbn_model *model)
{
    const int8_t *const output = run_output();
    say("m-results-[");
    for (uint32_t i = 0; i < model->output_bytes; i++) {
        const int64_t scaled = (int64_t)(output[i] - model->output_zero) * model->output_scale_q20;
        const int64_t half = 1 << 19;
        say(i > 0u ? "," : "");
        say_thousandths((int32_t)(scaled < 0 ? -((half - scaled) >> 20) : (scaled + half) >> 20));
    }
    say("]\r\n");
}

/* Runs once. A run destroys its input, so only the first one after a load has a result: that one is kept. The
   others take the same time and put theirs where it does no harm. */
static void infer_once(const tinymbn_model *model)
{
    if (text.input == INPUT_RUN) {
        model->run(model->input(), run_spare_output());
    } else {
        model->run(model->input(), run_output());
        text.input = INPUT_RUN;
    }
    text_poll();
}

static void infer(const tinymbn_model *model, word rest)
{
    const word inferences_word = next_word(&rest);
    const word warmups_word = next_word(&rest);
    uint32_t inferences = 1;
    uint32_t warmups = WARMUPS;
    if (inferences_word.bytes > 0u &&
        (!read_number(inferences_word, &inferences) || inferences == 0u || inferences > MOST_INFERENCES)) {
        say_error("infer: inferences are 1 to 1000000, not ", inferences_word);
        return;
    }
    if (warmups_word.bytes > 0u && (!read_number(warmups_word, &warmups) || warmups > MOST_INFERENCES)) {
        say_error("infer: warm-ups are 0 to 1000000, not ", warmups_word);
        return;
    }
    say("m-warmup-start-");
    say_number(warmups);
    say("\r\n");
    for (uint32_t i = 0; i < warmups; i++) {
        infer_once(model);
    }
    say("m-warmup-done\r\nm-infer-start-");
    say_number(inferences);
    say("\r\n");
    say_lap();
    for (uint32_t i = 0; i < inferences; i++) {
        infer_once(model);
    }
    say_lap();
    say("m-infer-done\r\n");
    say_results(model);
}

static void say_help(void)
{
    say("tinymbn: MLPerf Tiny text commands, each ended by %\r\n"
        "name, profile, timestamp, results, help\r\n"
        "db load N, db HEX.., db print\r\n"
        "infer N [W]\r\n");
}

void text_start(void)
{
    memset(&text, 0, sizeof text);
    text.last_ticks = board_cycles();
    say("m-timestamp-mode-performance\r\nm-lap-us-0\r\nm-init-done\r\nm-ready\r\n");
}

void text_forget_input(void)
{
    text.input = INPUT_NONE;
    text.expected = 0;
    text.loaded = 0;
}

void text_execute(const tinymbn_model *model, const uint8_t *command, uint32_t bytes, bool too_long)
{
    const word whole = {command, bytes};
    word rest = whole;
    const word verb = next_word(&rest);
    if (too_long) {
        say_error("Command longer than 80 characters: ", whole);
    } else if (!run_fits(model)) {
        say_error("Link and model were not generated together", (word){command, 0u});
    } else if (is(verb, "name")) {
        say("m-name-dut-[tinymbn " BOARD_NAME "]\r\n");
    } else if (is(verb, "profile")) {
        say("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[");
        say(model->name);
        say("]\r\n");
    } else if (is(verb, "timestamp")) {
        say_lap();
    } else if (is(verb, "db")) {
        manage_buffer(model, rest);
    } else if (is(verb, "infer")) {
        infer(model, rest);
    } else if (is(verb, "results")) {
        say_results(model);
    } else if (is(verb, "help")) {
        say_help();
    } else {
        say_error("Unknown command: ", whole);
    }
    say("m-ready\r\n");
}
