"""Imports float networks that ``torch.export.save`` has written; PyTorch is not needed."""

from __future__ import annotations

import os
from pathlib import Path

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.files import read_file
from tinymbn.importers.pytorch.archive import DAMAGE, Node, Program, is_exported, read_program
from tinymbn.importers.pytorch.lowering import ProgramLowering
from tinymbn.importers.pytorch.operators import lower, trains
from tinymbn.quantize import FloatGraph

_MAX_FILE_BYTES = 1 << 30


def import_exported(path: str | os.PathLike[str]) -> FloatGraph:
    """The float graph in a file of ``torch.export.save``.

    Maps lie channels last, whatever the file has; inputs and outputs that are maps do so as well.

    Raises:
        ModelError: the file is missing or damaged, or its shapes do not fit each other.
        UnsupportedError: nodes that tinymbn does not know; the text lists them all.
    """
    path = Path(path)
    data = read_file(path, ModelError, _MAX_FILE_BYTES)
    try:
        return _to_graph(read_program(data), path.stem)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    except DAMAGE as error:
        detail = f"{type(error).__name__}: {str(error)[:100]}"
        raise ModelError(f"{path}: damaged, or not a file of torch.export.save: {detail}") from error


def is_exported_file(path: Path) -> bool:
    """Whether a file is one of ``torch.export.save``, whatever it is called."""
    try:
        return is_exported(read_file(path, ModelError, _MAX_FILE_BYTES))
    except ModelError:
        return False


def _to_graph(program: Program, name: str) -> FloatGraph:
    if any(trains(node) for node in program.nodes):
        raise UnsupportedError("it was exported in training mode; expected torch.export.export(network.eval(), ...)")
    lowering = ProgramLowering(program)
    problems: list[str] = []
    outputs: tuple[str, ...] = ()
    try:
        for node in program.nodes:
            if node.output:  # others are assertions
                _take(lowering, node, problems)
        outputs = tuple(lowering.output(output) for output in program.outputs)
    except ModelError:
        if not problems:
            raise  # otherwise it may follow from what stands in for what is not known
    if problems:
        raise UnsupportedError(
            f"{len(problems)} node{'s' if len(problems) > 1 else ''} that tinymbn does not know: {'; '.join(problems)}"
        )
    return lowering.graph(name, outputs)


def _take(lowering: ProgramLowering, node: Node, problems: list[str]) -> None:
    try:
        lower(lowering, node)
    except UnsupportedError as error:
        problems.append(f"{node.name[:80]} ({node.operator[:80]})" + (f": {error}" if str(error) else ""))
        lowering.keep_stand_in(node)
