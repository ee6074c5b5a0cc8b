"""Fills templates: strict about names, plain about blanks."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from tinymbn import __version__
from tinymbn.paths import FIRMWARE_TEMPLATES


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FIRMWARE_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - C, not HTML; names are made safe by names.plain and names.identifier
    )


def render(template: str, **views: Any) -> str:
    """The text of a template, a path below ``firmware_templates``, with one line feed at its end."""
    return _environment().get_template(template).render(version=__version__, **views).strip("\n") + "\n"


def source(path: str) -> str:
    """The text of a file below ``firmware_templates`` that is C already."""
    return (FIRMWARE_TEMPLATES / path).read_text(encoding="utf-8")
