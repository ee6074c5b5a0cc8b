"""From a float network to an int8 Graph: describe it, fold it, calibrate it, convert it."""

from tinymbn.architectures import Architecture, Stage, architecture, mobilenet_v1, mobilenet_v2
from tinymbn.layers import AveragePool, MaxPool, Padding, Reshape, Window, same_padding
from tinymbn.quantize.builder import build
from tinymbn.quantize.calibration import Observed, Progress, min_max_ranges, observe, ranges
from tinymbn.quantize.conversion import convert
from tinymbn.quantize.equalization import equalize
from tinymbn.quantize.float_file import load_float_model, save_float_model
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_interpreter import FloatInterpreter
from tinymbn.quantize.float_layers import (
    AnyFloatLayer,
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatLogistic,
    FloatMean,
    FloatSoftmax,
    Relu,
)
from tinymbn.quantize.folding import fold, fold_into_preprocessing
from tinymbn.quantize.histogram import Histogram, Method, Range, best_range
from tinymbn.quantize.post_training import Calibration, calibrate, quantize

__all__ = [
    "AnyFloatLayer",
    "Architecture",
    "Stage",
    "architecture",
    "build",
    "load_float_model",
    "mobilenet_v1",
    "mobilenet_v2",
    "save_float_model",
    "AveragePool",
    "BatchNorm",
    "Calibration",
    "calibrate",
    "FloatAdd",
    "FloatConv2D",
    "FloatDense",
    "FloatDepthwise",
    "FloatGraph",
    "FloatInterpreter",
    "FloatLogistic",
    "FloatMean",
    "FloatSoftmax",
    "Histogram",
    "Method",
    "Observed",
    "best_range",
    "observe",
    "ranges",
    "MaxPool",
    "Padding",
    "Progress",
    "Range",
    "Relu",
    "Reshape",
    "Window",
    "convert",
    "equalize",
    "fold",
    "fold_into_preprocessing",
    "min_max_ranges",
    "quantize",
    "same_padding",
]
