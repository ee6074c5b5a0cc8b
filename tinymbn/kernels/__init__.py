"""The layer kinds' arithmetic, one module a kind: plain loops that read like the formula.

They are the specification: whatever is faster must give the same bytes. Arrays are NHWC without the batch,
``x`` is the input, ``out`` is written. Kernels know arrays and integers; only ``interpreter`` knows layers too.
"""
