@ The first 256 bytes of the flash, which RP2040's boot ROM copies to RAM and runs. They make the flash
@ controller read by command 03h, which every serial flash has, and start what follows. RP2040 datasheet
@ 2.8.1, 4.10.11.
    .syntax unified
    .cpu cortex-m0plus
    .thumb
    adr r0, settings
    adr r1, settings_end
setting:
    ldmia r0!, {r2, r3}
    str r3, [r2]
    cmp r0, r1
    bne setting
    ldr r0, [r3, #0]        @ r3 is what VTOR got: the vector table, with the stack
    ldr r1, [r3, #4]        @ and the reset handler
    msr msp, r0
    bx r1

    .balign 4
settings:                   @ address, value
    .word 0x18000008, 0             @ SSIENR: off, to configure
    .word 0x18000014, 4             @ BAUDR: clk_sys / 4, 31.25 MHz at 125 MHz; 03h may have 50
    .word 0x18000000, 0x001F0300    @ CTRLR0: one line, 32 bits a frame, EEPROM read
    .word 0x18000004, 0             @ CTRLR1: one frame a read
    .word 0x180000F4, 0x03000218    @ SPI_CTRLR0: command 03h in 8 bits, then an address of 24
    .word 0x18000008, 1             @ SSIENR: on; the flash is memory now
    .word 0xE000ED08, 0x10000100    @ VTOR
settings_end:
