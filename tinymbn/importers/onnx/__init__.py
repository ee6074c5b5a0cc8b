"""ONNX files: float networks, and int8 ones with the quantiser's own integers."""
