"""Names out of a model, made safe: for identifiers, for comments, for Markdown. A model file may hold any text."""

from __future__ import annotations

import re

_MOST = 40  # characters of a model's own name in an identifier or a title


def identifier(text: str) -> str:
    """The text as the tail of a C identifier: lower-case letters, digits and single underscores; perhaps empty."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower())[:_MOST].strip("_")


def plain(text: str) -> str:
    """The text where it can do no harm: in a C comment, in Markdown or a shell's echo, on one line.

    Everything but letters, digits, space and ``_ - . : ; , /`` becomes ``_``, and ``//`` one ``/``.
    """
    kept = re.sub(r"[^A-Za-z0-9 _\-.:;,/]", "_", text)
    kept = re.sub(r"/{2,}", "/", kept)  # what follows // is a comment
    return kept if len(kept) <= _MOST else kept[: _MOST - 3] + "..."
