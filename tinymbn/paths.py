"""Where the data files that ship lie: inside the package in a wheel, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

SHIPPED_MODEL = _PACKAGE / "models" / "digits.npz"


def _shipped(in_wheel: str, in_checkout: str) -> Path:
    inside = _PACKAGE / in_wheel
    return inside if inside.is_dir() else _PACKAGE.parent / in_checkout


SAMPLE_PICTURES = _shipped("samples", "examples/digits/samples")
BOARDS = _shipped("boards", "boards")
FIRMWARE_TEMPLATES = _shipped("firmware_templates", "firmware_templates")
