/* What outlasts a request: see session.h. */
#include "session.h"

#include "../board/board.h"

enum {
    BAUD_TRIAL_MS = 2000, /* a new baud rate is kept if a good frame comes within */
};

session_state session;

bool session_change_baud(uint32_t baud)
{
    /* Whether it can be made is known by making it; nothing moves on the line in between. */
    if (!board_set_baud(baud)) {
        return false;
    }
    if (!board_set_baud(session.baud)) {
        return false;
    }
    session.next_baud = baud;
    return true;
}

void session_after_reply(void)
{
    if (session.reset) {
        board_flush();
        board_reset();
    }
    if (session.next_baud != 0u) {
        board_flush();
        if (board_set_baud(session.next_baud)) {
            session.last_baud = session.baud;
            session.baud = session.next_baud;
            session.trial_ms = board_milliseconds();
        }
        session.next_baud = 0u;
    }
}

void session_poll(void)
{
    if (session.last_baud != 0u && board_milliseconds() - session.trial_ms > BAUD_TRIAL_MS) {
        if (board_set_baud(session.last_baud)) {
            session.baud = session.last_baud;
        }
        session.last_baud = 0u;
    }
}
