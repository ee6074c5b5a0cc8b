/* The firmware: a model on a board, behind the link. */
#include "board/board.h"
#include "link/server.h"
#include "link/tinymbn_model.h"

/* Falling asleep between the bytes of a frame costs an emulator more than the bytes do. */
enum { POLLS_AWAKE = 1000 };

int main(void)
{
    board_init();
    server_start(&tinymbn_the_model);
    int32_t polls = 0;
    for (;;) {
        const int byte = board_read();
        if (byte >= 0) {
            server_receive((uint8_t)byte);
            polls = 0;
        } else if (polls < POLLS_AWAKE) {
            polls++;
        } else {
            server_poll();
            board_wait();
        }
    }
}
