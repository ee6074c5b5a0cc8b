"""What the generated code must reach on Cortex-M, and how each figure follows from measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.cases import MODELS, PLAIN, RAM, RAM_KEPT, RAM_KEPT_ROWS, SPEED, SPEED_KEPT, Case, Variant
from benchmarks.measurement import Measurement

Figure = Callable[[Measurement], float | None]
Measured = Mapping[Case, Measurement]


@dataclass(frozen=True)
class Target:
    """One row.

    Attributes:
        what: for people.
        peer: the figure of CMSIS-NN; empty: there is none.
        case: measured.
        figure: of it.
        text: of a figure.
        limit: what it must reach.
        aim: what it should; None: no more than that.
        base: where the figure is a ratio: what that of ``case`` is divided by.
        fewer: the ratio is base to case, and must be at least the limit.
        others: it is the largest figure of ``case`` and these, of as many as were measured.
    """

    what: str
    peer: str
    case: Case
    figure: Figure
    text: Callable[[float], str]
    limit: float
    aim: float | None
    base: Case | None = None
    fewer: bool = False
    others: tuple[Case, ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """What has to be measured for it."""
        return (self.case, *self.others) if self.base is None else (self.case, self.base)

    def reached(self, measured: Measured) -> float | None:
        """The figure; None where it was not measured."""
        found = [self.figure(measured[case]) if case in measured else None for case in self.cases]
        numbers = [number for number in found if number is not None]
        if self.others:
            return max(numbers, default=None)
        if len(numbers) < len(found):
            return None
        if self.base is None:
            return numbers[0]
        return numbers[1] / numbers[0] if self.fewer else numbers[0] / numbers[1]

    def is_met(self, reached: float) -> bool:
        """Whether the figure is as it must be."""
        return reached >= self.limit if self.fewer else reached <= self.limit


def cycles(measurement: Measurement) -> float | None:
    """Estimated M4 cycles of one inference."""
    return measurement.counts.cycles if measurement.counts is not None else None


def instructions(measurement: Measurement) -> float | None:
    """Instructions of one inference."""
    return measurement.counts.instructions if measurement.counts is not None else None


def cycles_a_mac(measurement: Measurement) -> float | None:
    """Estimated M4 cycles for each multiplication that is still done."""
    return measurement.counts.cycles / measurement.macs if measurement.counts is not None else None


def instructions_a_mac(measurement: Measurement) -> float | None:
    """Instructions for each multiplication that is still done."""
    return measurement.counts.instructions / measurement.macs if measurement.counts is not None else None


def activations_to_dsp(measurement: Measurement) -> float | None:
    """RAM that the model keeps, to that with kernels for the DSP extension."""
    base = measurement.dsp_activation_bytes
    return measurement.activation_bytes / base if base is not None else None


def activations(measurement: Measurement) -> float:
    """Bytes of RAM that the model keeps."""
    return measurement.activation_bytes


def kernels(measurement: Measurement) -> float:
    """Bytes of code of the layers."""
    return measurement.footprint.kernels


def flash(measurement: Measurement) -> float:
    """Bytes of code and constants of the model."""
    return measurement.footprint.flash


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f} M"


def _bytes(value: float) -> str:
    return f"{value:,.0f} B"


def _kilobytes(value: float) -> str:
    return f"{value / 1e3:.1f} KB"


def _times(value: float) -> str:
    return f"{value:.4g}x"


def _a_mac(value: float) -> str:
    return f"{value:.4g}"


def _m4(model: str, variant: Variant) -> Case:
    return Case(model, variant, "qemu-m4")


def _m55(model: str, variant: Variant) -> Case:
    return Case(model, variant, "qemu-m55")


_PERSON, _VWW, _V1_128 = "person_detect", "vww_96_int8", "mobilenet_v1_0.25_128_quant"
_UNEVEN, _GREY, _V2 = "mobilenet_v1_0.35_100x100x3_uneven", "mobilenet_v1_0.25_96x96x1", "mobilenet_v2_0.35_96x96x3"

TARGETS = (
    Target("person_detect, M4, cycles", "26.94 M", _m4(_PERSON, SPEED), cycles, _millions, 9.2e6, 8.4e6),
    Target(
        "vww_96_int8, M4, cycles, dead channels removed",
        "28.62 M",
        _m4(_VWW, SPEED),
        cycles,
        _millions,
        5.8e6,
        5.2e6,
    ),
    Target(
        "vww_96_int8, M4, cycles, dead channels kept",
        "28.62 M",
        _m4(_VWW, SPEED_KEPT),
        cycles,
        _millions,
        9.7e6,
        8.9e6,
    ),
    Target(
        "person_detect, M3, instructions: times fewer than the plain kernels",
        "",
        Case(_PERSON, SPEED, "qemu-m3"),
        instructions,
        _times,
        1.5,
        None,
        base=Case(_PERSON, PLAIN, "qemu-m3"),
        fewer=True,
    ),
    Target(
        "vww_96_int8, activations, frame in RAM, dead channels kept",
        "55,296 B",
        _m4(_VWW, RAM_KEPT),
        activations,
        _bytes,
        34_500,
        32_800,
    ),
    Target("the same, fed by rows", "", _m4(_VWW, RAM_KEPT_ROWS), activations, _bytes, 21_000, 20_000),
    Target("person_detect, activations", "55,296 B", _m4(_PERSON, RAM), activations, _bytes, 19_500, 18_600),
    Target(
        "mobilenet_v1_0.25_128_quant, activations",
        "98,304 B",
        _m4(_V1_128, RAM),
        activations,
        _bytes,
        58_000,
        54_800,
    ),
    Target(
        "person_detect, M4, cycles of ram against speed",
        "",
        _m4(_PERSON, RAM),
        cycles,
        _times,
        1.08,
        1.03,
        base=_m4(_PERSON, SPEED),
    ),
    Target("person_detect, code and constants", "258 KB", _m4(_PERSON, SPEED), flash, _kilobytes, 300e3, 270e3),
    Target(
        "MobileNetV1 0.35, 100x100x3, channel counts as they come, M4, cycles a MAC",
        "",
        _m4(_UNEVEN, SPEED),
        cycles_a_mac,
        _a_mac,
        1.8,
        1.4,
    ),
    Target(
        "MobileNetV1 0.25, 96x96x1, an ordinary first convolution, M4, cycles a MAC",
        "",
        _m4(_GREY, SPEED),
        cycles_a_mac,
        _a_mac,
        1.45,
        1.25,
    ),
    Target("MobileNetV2 0.35, 96x96x3, M4, cycles a MAC", "", _m4(_V2, SPEED), cycles_a_mac, _a_mac, 2.0, 1.5),
    Target("person_detect, M55, instructions", "6.37 M", _m55(_PERSON, SPEED), instructions, _millions, 2.0e6, 1.48e6),
    Target(
        "vww_96_int8, M55, instructions, dead channels kept",
        "6.42 M",
        _m55(_VWW, SPEED_KEPT),
        instructions,
        _millions,
        2.05e6,
        1.51e6,
    ),
    Target(
        "vww_96_int8, M55, instructions, dead channels removed",
        "6.42 M",
        _m55(_VWW, SPEED),
        instructions,
        _millions,
        1.3e6,
        0.95e6,
    ),
    Target(
        "MobileNetV1 0.35, 100x100x3, channel counts as they come, M55, instructions a MAC",
        "",
        _m55(_UNEVEN, SPEED),
        instructions_a_mac,
        _a_mac,
        0.6,
        0.35,
    ),
    Target(
        "MobileNetV2 0.35, 96x96x3, M55, instructions a MAC", "", _m55(_V2, SPEED), instructions_a_mac, _a_mac, 0.6, 0.4
    ),
    Target("person_detect, M55, code of the layers", "15.8 KB", _m55(_PERSON, SPEED), kernels, _kilobytes, 24e3, 13e3),
    Target(
        "M55, activations against those with kernels for the DSP extension, worst of the models",
        "",
        _m55(MODELS[0], RAM),
        activations_to_dsp,
        _times,
        1.15,
        1.0,
        others=tuple(_m55(model, RAM) for model in MODELS[1:]),
    ),
)
