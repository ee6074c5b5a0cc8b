/* The text commands of MLPerf Tiny: see docs/link.md. Every command ends with exactly one m-ready. */
#include "text.h"

#include "../board/board.h"
#include "input.h"
#include "run.h"
#include "stopwatch.h"
#include "word.h"

enum {
    WARMUPS = 10, /* where `infer` does not say */
    MOST_INFERENCES = 1000000, /* a run of the official runner lasts 10 s at least */
    BUFFER_LINE_BYTES = 8,
};

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

static void say_lap(void)
{
    const uint32_t now = stopwatch_microseconds();
    say("m-lap-us-");
    say_number(now);
    say("\r\n");
}

static void load(const tinymbn_model *model, word count)
{
    uint32_t bytes;
    if (!word_number(count, &bytes) || bytes == 0u) {
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
    input_expect(bytes);
    say("m-[Expecting ");
    say_number(bytes);
    say(" bytes]\r\n");
}

static void load_bytes(const tinymbn_model *model, word digits)
{
    if (input.loaded == input.expected) {
        say_error("db: no db load before ", digits);
        return;
    }
    if (digits.bytes % 2u != 0u) {
        say_error("db: odd number of hexadecimal digits: ", digits);
        return;
    }
    for (uint32_t i = 0; i < digits.bytes; i++) {
        if (word_hex_digit(digits.at[i]) > 15u) {
            say_error("db: not hexadecimal: ", digits); /* before any byte of them is stored */
            return;
        }
    }
    for (uint32_t i = 0; i < digits.bytes && input.loaded < input.expected; i += 2u) {
        const uint32_t pixel = word_hex_digit(digits.at[i]) << 4 | word_hex_digit(digits.at[i + 1u]);
        input_add(model, (uint8_t)pixel);
    }
    if (input.loaded == input.expected) {
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
    if (!input_ready()) {
        say_error("db print: nothing is loaded, or an inference overwrote it", nothing);
        return;
    }
    for (uint32_t i = 0; i < input.loaded; i++) {
        const bool ends = (i + 1u) % BUFFER_LINE_BYTES == 0u || i + 1u == input.loaded;
        if (i % BUFFER_LINE_BYTES == 0u) {
            say("m-buffer-");
        }
        say_hex(pixel_of(model, i));
        say(ends ? "\r\n" : "-");
    }
}

static void manage_buffer(const tinymbn_model *model, word rest)
{
    const word action = word_next(&rest);
    if (action.bytes == 0u) {
        say_error("db: load, print or hexadecimal digits", action);
    } else if (word_is(action, "load")) {
        load(model, word_next(&rest));
    } else if (word_is(action, "print")) {
        print_buffer(model);
    } else {
        load_bytes(model, action);
    }
}

static void say_results(const tinymbn_model *model)
{
    say("m-results-[");
    for (uint32_t i = 0; i < model->output_bytes; i++) {
        const int64_t scaled = (int64_t)(run_output[i] - model->output_zero) * model->output_scale_q20;
        const int64_t half = 1 << 19;
        say(i > 0u ? "," : "");
        say_thousandths((int32_t)(scaled < 0 ? -((half - scaled) >> 20) : (scaled + half) >> 20));
    }
    say("]\r\n");
}

/* Whether the frame lasts for so many runs; says why not. */
static bool lasts(const tinymbn_model *model, uint32_t runs)
{
    if (model->input_stays || (runs == 1u && !input.used_up)) {
        return true;
    }
    if (input.used_up) {
        say("e-[infer: the last run overwrote the input; db load it again]\r\n");
    } else {
        say("e-[infer: ");
        say_number(runs);
        say(" runs; a run overwrites the input and RAM has no room for a copy, so one at a time: db load, infer 1 0]\r\n");
    }
    return false;
}

static void infer_times(const tinymbn_model *model, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++) {
        run_once(model);
        stopwatch_poll();
    }
}

static void infer(const tinymbn_model *model, word rest)
{
    const word inferences_word = word_next(&rest);
    const word warmups_word = word_next(&rest);
    uint32_t inferences = 1;
    uint32_t warmups = WARMUPS;
    if (inferences_word.bytes > 0u &&
        (!word_number(inferences_word, &inferences) || inferences == 0u || inferences > MOST_INFERENCES)) {
        say_error("infer: inferences are 1 to 1000000, not ", inferences_word);
        return;
    }
    if (warmups_word.bytes > 0u && (!word_number(warmups_word, &warmups) || warmups > MOST_INFERENCES)) {
        say_error("infer: warm-ups are 0 to 1000000, not ", warmups_word);
        return;
    }
    if (!lasts(model, inferences + warmups)) {
        return;
    }
    if (!model->input_stays) {
        input_use_up();
    }
    say("m-warmup-start-");
    say_number(warmups);
    say("\r\n");
    infer_times(model, warmups);
    say("m-warmup-done\r\nm-infer-start-");
    say_number(inferences);
    say("\r\n");
    say_lap();
    infer_times(model, inferences);
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
    input_forget();
    stopwatch_start();
    say("m-timestamp-mode-performance\r\nm-lap-us-0\r\nm-init-done\r\nm-ready\r\n");
}

void text_execute(const tinymbn_model *model, const uint8_t *command, uint32_t bytes, bool too_long)
{
    const word whole = {command, bytes};
    word rest = whole;
    const word verb = word_next(&rest);
    if (too_long) {
        say_error("Command longer than 80 characters: ", whole);
    } else if (!run_fits(model)) {
        say_error("Link and model were not generated together", (word){command, 0u});
    } else if (word_is(verb, "name")) {
        say("m-name-dut-[tinymbn " BOARD_NAME "]\r\n");
    } else if (word_is(verb, "profile")) {
        say("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[");
        say(model->name);
        say("]\r\n");
    } else if (word_is(verb, "timestamp")) {
        say_lap();
    } else if (word_is(verb, "db")) {
        manage_buffer(model, rest);
    } else if (word_is(verb, "infer")) {
        infer(model, rest);
    } else if (word_is(verb, "results")) {
        say_results(model);
    } else if (word_is(verb, "help")) {
        say_help();
    } else {
        say_error("Unknown command: ", whole);
    }
    say("m-ready\r\n");
}
