/* The firmware: a model on a board, behind the link. */
#include "board/board.h"
#include "link/server.h"
#include "link/tinymbn_model.h"

int main(void)
{
    board_init();
    server_start(&tinymbn_the_model);
    for (;;) {
        int byte = board_read();
        while (byte >= 0) {
            server_receive((uint8_t)byte);
            byte = board_read();
        }
        server_poll();
        board_wait();
    }
}
