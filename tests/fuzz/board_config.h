/* The numbers of a board that is a process on a PC: see pc_board.c. */
#ifndef BOARD_CONFIG_H
#define BOARD_CONFIG_H

#define BOARD_NAME "stand-in"
#define BOARD_CORE "pc"
#define BOARD_BAUD 115200u
#define BOARD_CLOCK_HZ 1000000000u
#define BOARD_COUNTER_HZ 1000000000u
#define BOARD_COUNTER_BITS 32
#define BOARD_COUNTER_NAME "nanoseconds"

#endif
