"""Model files as LiteRT takes them."""

from __future__ import annotations

import tflite

_QUANTIZED_DIMENSION_SLOT = 16  # of the table QuantizationParameters: field 6, the vtable starts with 4 bytes


def readable_by_litert(model: bytes) -> bytes:
    """The same file with ``quantized_dimension`` 0 on tensors of rank 1, without which LiteRT refuses it."""
    patched = bytearray(model)
    subgraph = tflite.Model.GetRootAs(model, 0).Subgraphs(0)
    for i in range(subgraph.TensorsLength()):
        tensor = subgraph.Tensors(i)
        quantization = tensor.Quantization()
        if tensor.ShapeLength() == 1 and quantization is not None and quantization.QuantizedDimension() != 0:
            table = quantization._tab
            at = table.Pos + table.Offset(_QUANTIZED_DIMENSION_SLOT)
            patched[at : at + 4] = bytes(4)
    return bytes(patched)
