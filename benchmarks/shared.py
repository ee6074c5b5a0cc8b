"""Where the models, pictures and tools lie that are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TINYMBN_SHARED", CHECKOUT.parent / "shared"))

PICTURE = SHARED / "images" / "person.png"  # what every model gets


def model_file(name: str) -> Path:
    """Where a model lies, if it is there."""
    return SHARED / "models" / f"{name}.tflite"
