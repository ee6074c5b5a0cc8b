/* The PC as a board: the serial line is the terminal on standard input and output. */
#define _POSIX_C_SOURCE 200809L

#include "board.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 1000, WRITE_WAITS = 10 };

static uint8_t received[4096];
static size_t received_bytes;
static size_t received_read;

/* When the other side has gone there is nobody left to be a board for. */
static void fill(void)
{
    struct pollfd line = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (received_read < received_bytes || poll(&line, 1, 0) <= 0) {
        return;
    }
    const ssize_t bytes = read(STDIN_FILENO, received, sizeof(received));
    if (bytes > 0) {
        received_bytes = (size_t)bytes;
        received_read = 0;
    } else if (bytes == 0 || (errno != EINTR && errno != EAGAIN)) {
        exit(0);
    }
}

void board_init(void)
{
    struct termios line;
    if (tcgetattr(STDIN_FILENO, &line) == 0) { /* a pipe has no modes */
        line.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | IGNBRK | IGNCR | INLCR | INPCK | ISTRIP | IXON | PARMRK);
        line.c_oflag &= ~(tcflag_t)OPOST;
        line.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
        line.c_cflag = (line.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8 | CREAD | CLOCAL;
        line.c_cc[VMIN] = 1;
        line.c_cc[VTIME] = 0;
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &line);
    }
    (void)board_milliseconds();
}

uint32_t board_status(void)
{
    return BOARD_OK;
}

int board_read(void)
{
    fill();
    return received_read < received_bytes ? received[received_read++] : -1;
}

void board_wait(void)
{
    struct pollfd line = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (received_read == received_bytes) {
        (void)poll(&line, 1, WAIT_MS);
    }
}

void board_write(const uint8_t *data, uint32_t bytes)
{
    uint32_t waits = 0;
    for (uint32_t done = 0; done < bytes && waits < WRITE_WAITS;) {
        const ssize_t taken = write(STDOUT_FILENO, data + done, bytes - done);
        if (taken > 0) {
            done += (uint32_t)taken;
            waits = 0;
        } else if (errno == EAGAIN || errno == EINTR) {
            struct pollfd line = {.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
            (void)poll(&line, 1, WAIT_MS);
            waits++;
        } else {
            exit(0);
        }
    }
}

void board_flush(void)
{
    (void)tcdrain(STDOUT_FILENO);
}

bool board_set_baud(uint32_t baud)
{
    return baud > 0; /* a pseudo-terminal is as fast as it is */
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint32_t board_cycles(void)
{
    return (uint32_t)nanoseconds();
}

uint32_t board_milliseconds(void)
{
    static uint64_t start;
    const uint64_t now = nanoseconds();
    if (start == 0) {
        start = now;
    }
    return (uint32_t)((now - start) / 1000000u);
}

uint32_t board_overruns(void)
{
    return 0;
}

/* The PC's stack is not ours to paint; the sanitisers watch it. */
uint32_t board_stack_bytes(void)
{
    return 0;
}

uint32_t board_stack_used(void)
{
    return 0;
}

/* A fault ends the program, and the sanitisers print it. */
const board_fault *board_fault_read(void)
{
    return NULL;
}

void board_fault_clear(void)
{
}

/* The same program again, on the same line. */
_Noreturn void board_reset(void)
{
    char program[] = "/proc/self/exe";
    char *const arguments[] = {program, NULL};
    (void)execv(program, arguments);
    exit(1);
}
