"""Where the models and pictures lie that are not part of the project, and the marker of tests that use them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TINYMBN_SHARED", CHECKOUT.parent / "shared"))

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no folder ../shared with models and pictures")
