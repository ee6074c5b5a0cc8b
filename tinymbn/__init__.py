"""The shortest trustworthy way from a trained MobileNet to a microcontroller.

The names below are imported when first used: ``tinymbn --help`` need not wait for Numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinymbn.errors import ImageError, ModelError, OutputError, TinymbnError, UnsupportedError
    from tinymbn.graph import Graph
    from tinymbn.importers.tflite.model import import_tflite
    from tinymbn.interpreter import Interpreter
    from tinymbn.load import load_model
    from tinymbn.model_file import save_model

__version__ = "0.1.0"

_HOME = {
    "Graph": "tinymbn.graph",
    "ImageError": "tinymbn.errors",
    "Interpreter": "tinymbn.interpreter",
    "ModelError": "tinymbn.errors",
    "OutputError": "tinymbn.errors",
    "TinymbnError": "tinymbn.errors",
    "UnsupportedError": "tinymbn.errors",
    "import_tflite": "tinymbn.importers.tflite.model",
    "load_model": "tinymbn.load",
    "save_model": "tinymbn.model_file",
}

__all__ = [
    "Graph",
    "ImageError",
    "Interpreter",
    "ModelError",
    "OutputError",
    "TinymbnError",
    "UnsupportedError",
    "__version__",
    "import_tflite",
    "load_model",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tinymbn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
