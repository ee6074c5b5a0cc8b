"""Fills templates: strict about names, plain about blanks."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from tinymbn import __version__
from tinymbn.paths import FIRMWARE_TEMPLATES

_COLUMNS = 110


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
    text = _environment().get_template(template).render(version=__version__, **views)
    return "\n".join(map(_wrapped, text.strip("\n").split("\n"))) + "\n"


def _wrapped(line: str) -> str:
    """A line of C that is too long, broken as clang-format does: behind commas, or before a name."""
    if len(line) <= _COLUMNS or line.lstrip().startswith(("/*", "*")) or not line.endswith((";", ")")):
        return line
    if line.startswith("#define"):
        macro, _, body = line.partition(" __")
        return f"{macro} \\\n    __{body}"
    head, _, name = line.rpartition(" ")
    if head.endswith("=") or head.startswith("extern"):
        return f"{head}\n{' ' * (len(line) - len(line.lstrip()) + 4)}{name}"
    comma = line.rfind(", ", 0, _COLUMNS)
    bracket = _open_bracket(line[:comma]) if comma > 0 else -1
    if bracket < 0:
        return line
    return line[: comma + 1] + "\n" + _wrapped(" " * (bracket + 1) + line[comma + 2 :])


def _open_bracket(text: str) -> int:
    """Where the innermost open bracket is; in a line that continues another, before its first letter; -1: nowhere."""
    depth = 0
    for i in range(len(text) - 1, -1, -1):
        depth += (text[i] == ")") - (text[i] == "(")
        if depth < 0:
            return i
    return len(text) - len(text.lstrip()) - 1


def source(path: str) -> str:
    """The text of a file below ``firmware_templates`` that is C already."""
    return (FIRMWARE_TEMPLATES / path).read_text(encoding="utf-8")
