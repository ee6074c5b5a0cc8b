"""The virtual STM32F7 board: a strict model of what firmware touches between reset and the serial line.

Written after the reference manuals RM0385 (STM32F74x) and RM0410 (STM32F76x); where they differ the STM32F746 is
modelled, which has less. It runs the unmodified flash image and reports what a chip would not forgive.
"""
