"""The board's end of the link: plain C that ships as it is, and the numbers it is built with."""

from __future__ import annotations

from tinymbn.board import RX_MAX
from tinymbn.paths import FIRMWARE_TEMPLATES

_MAIN = "main.c"
_FOLDER = "link"

SMALLEST_RX_MAX, LARGEST_RX_MAX = RX_MAX


def link_files(rx_max: int, layers: int, output_bytes: int) -> dict[str, str]:
    """The link's files by their path in a firmware folder: ``main.c``, ``link/*.c``, ``link/*.h``.

    Args:
        rx_max: bytes of the longest frame the board takes or sends, in RX_MAX.
        layers: of the model, at least 1.
        output_bytes: of the model's output on the board, at least 1.
    """
    assert SMALLEST_RX_MAX <= rx_max <= LARGEST_RX_MAX, f"rx_max {rx_max}"
    assert layers >= 1, f"{layers} layers"
    assert output_bytes >= 1, f"{output_bytes} output bytes"
    files = {
        path.name if path.name == _MAIN else f"{_FOLDER}/{path.name}": path.read_text(encoding="utf-8")
        for path in sorted((FIRMWARE_TEMPLATES / _FOLDER).iterdir())
        if path.suffix in (".c", ".h")
    }
    files[f"{_FOLDER}/link_config.h"] = _config(rx_max, layers, output_bytes)
    return dict(sorted(files.items()))


def link_ram_bytes(rx_max: int, layers: int, output_bytes: int) -> int:
    """RAM of the link's static data, from above: both buffers, the output, the records, what its modules keep."""
    state_bytes = 192
    return 2 * rx_max + output_bytes + 12 * layers + state_bytes


def _config(rx_max: int, layers: int, output_bytes: int) -> str:
    return f"""\
/* The link's sizes: of this board, and of the model it was generated with. */
#ifndef LINK_CONFIG_H
#define LINK_CONFIG_H

#define LINK_RX_MAX {rx_max} /* bytes of the longest frame, delimiters not counted */
#define LINK_LAYERS {layers}
#define LINK_OUTPUT_BYTES {output_bytes}

#endif
"""
