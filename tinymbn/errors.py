"""The errors a user can do something about, each with the exit code of the command line."""

from __future__ import annotations

from typing import ClassVar

from tinymbn.terminal import printable


class TinymbnError(Exception):
    """Something the user can put right; the text is one line that says what and how.

    Form: *subject: what is wrong, with the values; what was expected; what to do if not plain.*
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        # Names out of a damaged file may hold anything; they must not break the line or steer a terminal.
        super().__init__(printable(message))


class ModelError(TinymbnError):
    """A model file or graph that is damaged, inconsistent or not a model."""

    exit_code = 3


class UnsupportedError(ModelError):
    """A sound model that uses something tinymbn does not compute."""


class FloatModelError(UnsupportedError):
    """A float model where int8 is needed."""

    def __init__(self, message: str = "") -> None:
        quantize = "tinymbn quantize MODEL --calibrate PICTURES"
        super().__init__(message or f"a float model; tinymbn runs int8: quantise it first: {quantize}")


class ImageError(TinymbnError):
    """A picture, or an array given as input, that cannot become the model's input."""

    exit_code = 3


class DatasetError(TinymbnError):
    """Labelled pictures that are damaged, of another form, or of classes that the model does not have."""

    exit_code = 3


class OutputError(TinymbnError):
    """A place that cannot be written to."""

    exit_code = 2


class OptionError(TinymbnError):
    """Something asked for that does not exist or makes no sense."""

    exit_code = 2


class BoardError(TinymbnError):
    """A board that is not known, or whose ``board.toml`` says something impossible."""

    exit_code = 2


class PlanError(TinymbnError):
    """A model that does not fit a board."""

    exit_code = 4


class ToolError(TinymbnError):
    """A tool that is missing, such as a compiler or an emulator, or a build that failed."""

    exit_code = 5


class DeviceError(TinymbnError):
    """No device, or several and no word which."""

    exit_code = 6


class FlashError(TinymbnError):
    """Firmware that could not be brought onto a board."""

    exit_code = 7


class LinkError(TinymbnError):
    """A serial line that carries no answers, or none that are whole."""

    exit_code = 8


class FirmwareError(TinymbnError):
    """A board that answers, but runs another firmware, model or protocol than the one asked for."""

    exit_code = 10


class InterruptError(TinymbnError):
    """Work that the user stopped; the text says how far it got."""

    exit_code = 130  # 128 + SIGINT, as shells have it
