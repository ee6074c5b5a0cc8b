"""What a virtual microcontroller is made of, whatever the chip: core, time, registers, serial line, findings."""
