"""Who imports whom: a module imports only from rows above its own."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.shared import CHECKOUT

# One row a step from arithmetic to command line; a package stands for its modules, which may import each other.
ROWS = (
    ("fixedpoint", "paths", "terminal"),
    ("errors",),
    ("archive", "files"),
    ("layers", "preprocessing", "kernels", "link", "architectures"),
    ("graph", "board", "elf", "toolchain"),
    ("host", "plain"),
    ("image", "labels", "interpreter", "model_file", "board_rules", "emulators", "ports", "uf2"),
    ("quantize",),
    ("importers", "flashing"),
    ("load", "columns"),
    ("inference", "summary", "connection", "doctor"),
    ("tables", "stimuli", "verdict", "dataset"),
    ("quantization",),
    ("class_match",),
    ("evaluation",),
    ("tinymbn_codegen",),
    ("report", "evaluation_report", "project_file", "quantization_report", "quantization_page"),
    ("build", "firmware", "verify"),
    ("profile", "workbench"),
    ("estimate_report", "exploration"),
    ("bench_report",),
    ("commands",),
    ("cli",),
)
ROW = {name: row for row, names in enumerate(ROWS) for name in names}


def _unit(module: str) -> str:
    """The row entry of ``tinymbn.a.b``; the generator is one."""
    if module.split(".")[0] == "tinymbn_codegen":
        return "tinymbn_codegen"
    return module.split(".")[1] if "." in module else ""


def _imports(path: Path) -> set[str]:
    """The project's own modules that a file imports, those under TYPE_CHECKING and in functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.update(
                f"{node.module}.{alias.name}" if node.module == "tinymbn" else node.module for alias in node.names
            )
    return {_unit(name) for name in found if name.startswith(("tinymbn.", "tinymbn_codegen"))}


def test_modules_import_from_rows_above_alone() -> None:
    wrong = []
    for path in sorted([*(CHECKOUT / "tinymbn").rglob("*.py"), *(CHECKOUT / "codegen").rglob("*.py")]):
        package, *below = path.relative_to(CHECKOUT).with_suffix("").parts
        unit = "tinymbn_codegen" if package == "codegen" else below[0]
        if unit in ("__init__", "__main__"):
            continue
        assert unit in ROW, f"{path.name} stands in no row"
        wrong += [
            f"{path.relative_to(CHECKOUT)} imports {other}"
            for other in _imports(path)
            if other != unit and other in ROW and ROW[other] >= ROW[unit]
        ]
    assert not wrong


def test_nothing_imports_the_command_line() -> None:
    users = [p for p in (CHECKOUT / "tinymbn").rglob("*.py") if p.name != "__main__.py" and "cli" in _imports(p)]
    assert not users
