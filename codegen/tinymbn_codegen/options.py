"""What a user may ask of the generator, and its one-line form that travels with the firmware."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

from tinymbn.errors import OptionError

PASSES = ("fold_padding", "dead_channels", "alias_reshape", "overlap", "streaming")
"""Every pass and layout choice that can be switched off; none changes a byte of any channel that remains."""

KernelSet = Literal["chosen", "mve", "dsp", "armv7m", "armv6m", "plain"]
"""For cores with Helium, with the DSP extension, Cortex-M3, M0 and M0+; the general kernels; or the core's own."""

Optimize = Literal["speed", "balanced", "ram"]

Input = Literal["frame", "rows"]
"""Whether the input lies in the arena as a whole, or comes row by row."""

_SETS: dict[str, KernelSet] = {
    "cortex-m0": "armv6m",
    "cortex-m0plus": "armv6m",
    "cortex-m3": "armv7m",
    "cortex-m55": "mve",
    "cortex-m85": "mve",
}
"""Of cores without the DSP extension, and of those with more."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "kernels": get_args(KernelSet),
    "optimize": get_args(Optimize),
    "input": get_args(Input),
}

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
# Names of files and symbols beside the model's own, and C's and C++'s words that would not be caught as such.
_RESERVED = {"board", "link", "main", "model_link", "startup", "memory"}
# The C library's headers: ``string.h`` beside the sources would be taken for them.
_RESERVED |= {
    *("assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math"),
    *("setjmp", "signal", "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib"),
    *("stdnoreturn", "string", "tgmath", "threads", "time", "uchar", "wchar", "wctype"),
    *("fcntl", "poll", "termios", "unistd"),  # POSIX's, for the board "host"
}


@dataclass(frozen=True)
class Options:
    """What a user may ask of the generator.

    Attributes:
        name: the prefix of files and symbols, a C identifier.
        without: names of PASSES that are switched off.
        kernels: which set the fastest kernel is taken of whose preconditions are proved; "chosen" is the set of the
            core once ``on`` has said which, else "dsp", which every machine runs.
        optimize: what matters most where speed and RAM are at odds.
        input: how the input comes.

    Raises:
        OptionError: a name that is no prefix, or no pass.
    """

    name: str = "model"
    without: frozenset[str] = field(default_factory=frozenset)
    kernels: KernelSet = "chosen"
    optimize: Optimize = "balanced"
    input: Input = "frame"

    def __post_init__(self) -> None:
        if not _IDENTIFIER.fullmatch(self.name) or "__" in self.name or self.name.endswith("_"):
            raise OptionError(
                f'name "{self.name}": it becomes part of C names; expected a letter, then at most 31 letters, '
                "digits or single underscores"
            )
        if self.name.lower() in _RESERVED or self.name.lower().startswith("tinymbn"):
            raise OptionError(f'name "{self.name}": the firmware has a part of that name; choose another')
        for name in sorted(self.without - set(PASSES)):
            raise OptionError(f'pass "{name}" is not known; expected {", ".join(PASSES)}')
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise OptionError(f'{name} "{getattr(self, name)}"; expected {", ".join(known)}')

    def on(self, core: str) -> Options:
        """The same for a core: with its set of kernels where none was asked for."""
        if self.kernels != "chosen":
            return self
        return replace(self, kernels=_SETS.get(core, "dsp"))

    @property
    def text(self) -> str:
        """One line, the same for the same options."""
        chosen = (f"{name}={getattr(self, name)}" for name in _CHOICES)
        return ";".join([f"name={self.name}", *chosen, f"without={','.join(sorted(self.without))}"])

    @classmethod
    def parse(cls, text: str) -> Options:
        """The options that ``text`` is the one-line form of.

        Raises:
            OptionError: it is the form of none.
        """
        fields = dict(part.partition("=")[::2] for part in text.split(";"))
        if set(fields) != {"name", "without", *_CHOICES}:
            raise OptionError(f'options "{text}": expected name, {", ".join(_CHOICES)} and without')
        options = cls(
            fields["name"],
            frozenset(filter(None, fields["without"].split(","))),
            cast(KernelSet, fields["kernels"]),
            cast(Optimize, fields["optimize"]),
            cast(Input, fields["input"]),
        )
        if options.text != text:
            raise OptionError(f'options "{text}" are not as tinymbn writes them')
        return options
