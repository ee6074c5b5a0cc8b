"""The instruction set of this process; what the kernels beside this module are compiled for."""

from __future__ import annotations

from tinymbn.kernels.fast import instruction_set

NAME, FEATURES = instruction_set.processor()
SET = instruction_set.best(FEATURES)
