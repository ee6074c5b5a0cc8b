"""The process of a virtual STM32F7 board; ``tinymbn.emulators.start`` starts it."""

from __future__ import annotations

import os
import sys

from tinymbn.emulators.virtual_mcu.child import serve
from tinymbn.emulators.virtual_stm32f7.board import build

if __name__ == "__main__":
    status = serve(build)
    sys.stderr.flush()
    os._exit(status)  # taking down engine and compiler in order would cost a third of a second
