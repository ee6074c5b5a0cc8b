/* What outlasts a request: the epoch, the damaged frames counted, a baud rate on trial, a reset to come. */
#ifndef LINK_SESSION_H
#define LINK_SESSION_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint32_t epoch; /* the nonce of the host's SYNC, 0 after a reset */
    uint32_t bad_frames; /* received, but not whole */
    uint32_t baud;
    uint32_t next_baud; /* 0: no change is asked for */
    uint32_t last_baud; /* 0: the present one is not on trial */
    uint32_t trial_ms;
    bool reset; /* asked for */
} session_state;

extern session_state session;

/* Changes the baud rate behind the reply, and back if no good frame follows; false where it cannot be. */
bool session_change_baud(uint32_t baud);

/* The reply is sent: now what had to wait for it is done. */
void session_after_reply(void);

/* Goes back to the last baud rate when the trial of this one is over. */
void session_poll(void);

#endif
