"""Kernels for cores with Helium, the M-profile vector extension (MVE)."""
