"""Writes the folder of a firmware, or of a model as a library, and nothing of anybody else's."""

from __future__ import annotations

import json
from pathlib import Path

from tinymbn.board import Board
from tinymbn.errors import OptionError, OutputError
from tinymbn.files import write_file
from tinymbn.graph import Graph
from tinymbn.image import int8_pixel_table
from tinymbn.model_file import fingerprint
from tinymbn.project_file import is_project
from tinymbn_codegen.budget import Budget, make_budget
from tinymbn_codegen.fit import require_fit
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import Plan, make_plan
from tinymbn_codegen.project import PLAN_FILE, firmware_files, library_files


def plan_model(graph: Graph, board: Board, options: Options) -> tuple[Plan, Budget]:
    """How a model would run on a board, and what it takes of it, whether it fits or not."""
    plan = make_plan(graph, options.on(board.core), fingerprint(graph))
    return plan, make_budget(plan, board)


def write_firmware(graph: Graph, board: Board, options: Options, folder: Path, *, library: bool = False) -> Plan:
    """Generate into a folder: a new one, an empty one, or one that codegen made before.

    Args:
        graph: the model.
        board: what it is for.
        options: what was asked for.
        folder: of an earlier generation, files that are no longer made go, and what was built of them; all others stay.
        library: the model alone.

    Raises:
        OptionError: the folder holds something else.
        PlanError: the model does not fit the board.
        OutputError: it cannot be written.
    """
    require_folder(folder)
    plan, budget = plan_model(graph, board, options)
    if not library:
        require_fit(graph, plan, board, budget)
    generate = library_files if library else firmware_files
    files = generate(plan, board, int8_pixel_table(graph))
    try:
        for stale in _made_before(folder) - set(files):
            if (folder / stale).is_file():
                (folder / stale).unlink()
        for path in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be written: {error.strerror}") from None
    for path, text in files.items():
        write_file(folder / path, text.encode())
    return plan


def require_folder(folder: Path) -> None:
    """Nothing where the generator may write.

    Raises:
        OptionError: it may not.
    """
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder}: is a file; expected a folder")
    try:
        taken = folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        raise OptionError(f"{folder}: cannot be read: {error.strerror}") from None
    if taken and not is_project(folder):
        raise OptionError(f"{folder}: holds files that tinymbn codegen did not make; choose another with -o")


def _made_before(folder: Path) -> set[str]:
    """Paths that ``plan.json`` lists and what was built of them, those outside the folder left out."""
    if not is_project(folder):
        return set()
    values = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    files, made = values.get("files"), values.get("build")
    listed = [*(files if isinstance(files, list) else ()), made.get("target") if isinstance(made, dict) else None]
    root = folder.resolve()
    return {
        name
        for name in listed
        if isinstance(name, str) and "\0" not in name and (root / name).resolve().is_relative_to(root)
    }
