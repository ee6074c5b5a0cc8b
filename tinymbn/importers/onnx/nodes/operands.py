"""What several nodes read of their operands and attributes."""

from __future__ import annotations

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.channels_first.lowering import Value
from tinymbn.importers.onnx.file import Node
from tinymbn.layers import Padding, Window, same_padding


def operand(node: Node, index: int) -> str:
    """The name of an operand; empty where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else ""


def pair(node: Node, name: str, default: tuple[int, int]) -> tuple[int, int]:
    """An attribute of two numbers, (vertical, horizontal)."""
    found = tuple(node.attributes.get(name, default))
    if len(found) != 2 or min(found) < 1:
        raise UnsupportedError(f"{name} {found}; expected two numbers of 1 or more")
    return found[0], found[1]


def window_of(node: Node, value: Value, kernel: tuple[int, int]) -> Window:
    """The window over a map, SAME made explicit."""
    value.require_map()
    strides, dilations = pair(node, "strides", (1, 1)), pair(node, "dilations", (1, 1))
    if pair(node, "kernel_shape", kernel) != kernel:
        raise ModelError(f"kernel_shape {node.attributes['kernel_shape']} with weights of kernel {kernel}")
    rule = node.attributes.get("auto_pad", "NOTSET")
    if rule == "NOTSET":
        top, left, bottom, right = _four(node.attributes.get("pads", (0, 0, 0, 0)))
        return Window(kernel, strides, dilations, Padding(top, bottom, left, right))
    if rule == "VALID":
        return Window(kernel, strides, dilations)
    if rule not in ("SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"auto_pad {rule!r}")
    p = same_padding((value.shape[2], value.shape[3]), kernel, strides, dilations)
    lower = rule == "SAME_LOWER"  # the odd row and column before
    return Window(kernel, strides, dilations, Padding(p.bottom, p.top, p.right, p.left) if lower else p)


def _four(pads: tuple[int, ...]) -> tuple[int, ...]:
    if len(pads) != 4 or min(pads) < 0:
        raise UnsupportedError(f"pads {pads}; expected four numbers of 0 or more")
    return pads
