"""What is measured: which model, generated with which options, for which board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.networks import NETWORKS

# Of ../shared/models, in the order of the table; those that are not there are left out with a word.
SHARED_MODELS = (
    "person_detect",
    "vww_96_int8",
    "mobilenet_v1_0.25_128_quant",
    "mcunet_vww",
    "ssd_slim_120x160x1_int8",
    "v1_a050_160_random",
    "tf2_mobilenet_v2_1.0_224_ptq",
)
MODELS = (*SHARED_MODELS, *NETWORKS)
BOARDS = ("qemu-m4", "qemu-m3", "qemu-m55")


@dataclass(frozen=True)
class Variant:
    """A choice of the generator's options.

    Attributes:
        name: for people.
        arguments: of ``tinymbn codegen``.
    """

    name: str
    arguments: tuple[str, ...]


_KEPT = "--keep-dead-channels"
SPEED = Variant("speed", ("--optimize", "speed"))
BALANCED = Variant("balanced", ("--optimize", "balanced"))
RAM = Variant("ram", ("--optimize", "ram"))
SPEED_KEPT = Variant("speed, dead channels kept", (*SPEED.arguments, _KEPT))
RAM_KEPT = Variant("ram, dead channels kept", (*RAM.arguments, _KEPT))
RAM_KEPT_ROWS = Variant("ram, dead channels kept, fed by rows", (*RAM_KEPT.arguments, "--input", "rows"))
PLAIN = Variant("plain kernels", ("--kernels", "plain"))

CHOICES = (SPEED, BALANCED, RAM)


@dataclass(frozen=True)
class Case:
    """One firmware to build and run."""

    model: str
    variant: Variant
    board: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.model}, {self.variant.name}, {self.board}"


def choose_cases(
    models: Sequence[str], boards: Sequence[str], needed: Iterable[Case], *, quick: bool = False, plain: bool = False
) -> tuple[Case, ...]:
    """What a run measures, models in the order given, each on its boards in the order given.

    Args:
        models: names.
        boards: names.
        needed: what targets are judged by; only what is of these models and boards is taken.
        quick: nothing but what is needed.
        plain: the plain kernels alone, whatever is needed.
    """
    every = CHOICES if not plain else (PLAIN,)
    wanted = [Case(model, variant, board) for model in models for variant in every for board in boards]
    asked = [case for case in needed if case.model in models and case.board in boards]
    chosen = wanted if plain else asked if quick else [*wanted, *asked]
    # sorted() is stable: the choices stand before what targets need beyond them.
    ordered = sorted(dict.fromkeys(chosen), key=lambda case: (models.index(case.model), boards.index(case.board)))
    return tuple(ordered)
