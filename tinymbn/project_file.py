"""Reads ``plan.json``, by which a folder says what it was generated from and how it is built."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinymbn import __version__
from tinymbn.errors import OptionError, ToolError
from tinymbn_codegen.project import PLAN_FILE, SCHEMA, Build


@dataclass(frozen=True)
class Region:
    """A memory of the board."""

    name: str
    base: int
    size: int
    kind: str


@dataclass(frozen=True)
class LayerStack:
    """A layer's function and the most it may take of the stack."""

    symbol: str
    stack_bytes: int


@dataclass(frozen=True)
class Project:
    """A folder that ``tinymbn codegen`` wrote.

    Attributes:
        folder: where it is.
        board: name of the board.
        sha256: of the model.
        options: what codegen was asked for, in one line.
        build: sources and flags.
        memory: of the board; empty for the host.
        layers: with their stack bounds.
        stack_bytes: reserved.
    """

    folder: Path
    board: str
    sha256: str
    options: str
    build: Build
    memory: tuple[Region, ...]
    layers: tuple[LayerStack, ...]
    stack_bytes: int

    @property
    def target(self) -> Path:
        """What a build leaves."""
        return self.folder / self.build.target


def is_project(folder: Path) -> bool:
    """Whether ``tinymbn codegen`` wrote this folder, in any version."""
    try:
        return isinstance(json.loads((folder / PLAN_FILE).read_text(encoding="utf-8")).get("tinymbn"), str)
    except (OSError, ValueError, AttributeError):
        return False


def made_for(folder: Path) -> str | None:
    """The board that codegen made the folder for; None where it does not say."""
    if not is_project(folder):
        return None
    board = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8")).get("board")
    return board if isinstance(board, str) else None


def read_project(folder: Path) -> Project:
    """What the folder's ``plan.json`` says.

    Raises:
        OptionError: there is no such folder, or codegen did not write it.
        ToolError: another version of tinymbn did, or the file was damaged.
    """
    file = folder / PLAN_FILE
    if not is_project(folder):
        raise OptionError(f"{folder}: no {PLAN_FILE} of tinymbn in it; expected a folder made by tinymbn codegen")
    values = json.loads(file.read_text(encoding="utf-8"))
    if values.get("schema") != SCHEMA or values["tinymbn"] != __version__:
        raise ToolError(f"{file}: of tinymbn {values['tinymbn'][:20]}; this is {__version__}; run codegen again")
    try:
        return Project(
            folder=folder,
            board=values["board"],
            sha256=values["model"]["sha256"],
            options=values["options"],
            build=_read_build(values["build"]),
            memory=tuple(Region(m["name"], m["base"], m["size"], m["kind"]) for m in values["memory"]),
            layers=tuple(LayerStack(layer["symbol"], layer["stack_bytes"]) for layer in values["layers"]),
            stack_bytes=values["stack_bytes"],
        )
    except (KeyError, TypeError) as error:
        raise ToolError(f"{file}: damaged: {error}; run codegen again") from error


def _read_build(values: dict[str, Any]) -> Build:
    fields: dict[str, Any] = dict(values)
    for key, value in values.items():
        if isinstance(value, list):
            fields[key] = tuple(value)
    return Build(**fields)
