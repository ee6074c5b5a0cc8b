/* Numbers of the protocol. The Python twin is tinymbn/link/messages.py; docs/link.md says what they mean. */
#ifndef LINK_PROTOCOL_H
#define LINK_PROTOCOL_H

enum {
    OPERATION_NONE = 0,
    OPERATION_SYNC = 1, /* nonce u32 -> nonce u32 */
    OPERATION_HELLO = 2, /* offset u16 -> total u16, piece */
    OPERATION_MODEL = 3, /* offset u16 -> total u16, piece */
    OPERATION_CONSTANTS = 4, /* first u16, count u16 -> count x crc u32 */
    OPERATION_WRITE = 5, /* region u8, offset u32, data -> */
    OPERATION_READ = 6, /* region u8, offset u32, length u16 -> data */
    OPERATION_CRC = 7, /* region u8, offset u32, length u32 -> crc u32 */
    OPERATION_RUN = 8, /* layer, first, rows u16, flags u8, input crc u32 -> ticks u32, output crc u32 */
    OPERATION_DUMP = 9, /* as RUN, offset u32, length u32, piece u16 -> bytes reported u32 */
    OPERATION_STACK = 10, /* -> reserved u32, used u32 */
    OPERATION_FAULT = 11, /* clear u8 -> nothing, or count, pc, lr, psr, sp, cfsr, hfsr, mmfar, bfar u32 */
    OPERATION_BAUD = 12, /* baud u32 -> */
    OPERATION_RESET = 13, /* -> */
    OPERATION_ECHO = 14, /* data -> data */
    OPERATION_COUNTERS = 15, /* -> overruns u32, bad frames u32, cycles u32, milliseconds u32 */
};

enum {
    STATUS_OK = 0,
    STATUS_NOT_SYNCED = 1,
    STATUS_UNKNOWN_OPERATION = 2,
    STATUS_BAD_ARGUMENT = 3,
    STATUS_INPUT_DIFFERS = 4,
    STATUS_BAUD_IMPOSSIBLE = 5,
    STATUS_BAD_FRAME = 6, /* of an event: what came was no whole frame */
    STATUS_VERSION = 7, /* the request is of another protocol version */
    STATUS_INCONSISTENT = 8, /* link and model were not generated together */
};

enum {
    REGION_INPUT = 0,
    REGION_ARENA = 1,
    REGION_OUTPUT = 2, /* of the last run of the whole network */
    REGION_RECORDS = 3, /* (layers, 3) u32: bytes reported, ticks, crc32 */
};

enum {
    RUN_TRACED = 1, /* by run_traced, with a record a layer */
    RUN_GUARDED = 2, /* only if the CRC of the input is the one given */
    RUN_ALONE = 4, /* rows of one layer by run_rows, on what lies in the arena */
};

enum {
    EVENT_ACCEPTED = 1, /* the work begins */
    EVENT_PROGRESS = 2, /* layer u16 */
    EVENT_DATA = 3, /* offset u32, data */
};

#endif
