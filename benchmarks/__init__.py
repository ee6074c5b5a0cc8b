"""Benchmarks of the generated code: ``python benchmarks/cortex_m.py``."""
