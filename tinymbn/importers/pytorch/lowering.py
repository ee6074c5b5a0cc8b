"""The float graph under construction while a program of PyTorch is lowered, node by node."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.channels_first.lowering import Lowering, Order, Value, channels_last
from tinymbn.importers.pytorch.archive import Node, Program, Reference
from tinymbn.importers.weights import Array
from tinymbn.layers import Shape

_TO_CHANNELS_FIRST = [0, 3, 1, 2]  # what a permute makes of (N, H, W, C)


@dataclass(frozen=True, eq=False)
class Parameter:
    """Values of the network's state_dict, which may have been transposed and the like.

    Attributes:
        name: in the state_dict.
        values: float32, finite.
    """

    name: str
    values: Array

    @property
    def shape(self) -> Shape:
        """In the program."""
        return self.values.shape


class ProgramLowering(Lowering):
    """Tensors and layers made so far.

    Attributes:
        program: what is lowered.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(name for node in program.nodes for name in (node.name, node.output))
        self.program = program
        self._found: dict[str, Value | Parameter] = {}
        self._memory: dict[str, str] = {}  # the same for what PyTorch may have in one place
        self._place: dict[
            str, str
        ] = {}  # the same for what it has in one place for certain: a change of one changes all
        self._changed: dict[str, str] = {}  # views that are no more what they were, by the node that changed them
        if len(program.inputs) != 1:
            raise UnsupportedError(f"it has {len(program.inputs)} inputs; expected one")
        name = program.inputs[0]
        shape = program.shape(name)
        if not program.is_float(name):
            raise UnsupportedError(f'input "{name}" is not float32')
        if len(shape) < 2 or shape[0] != 1 or min(shape) < 1:
            raise UnsupportedError(f'input "{name}" has shape {shape}; expected a batch of 1, as (1, C, H, W)')
        self._found[name] = self.begin(name, shape, self._order(shape, turned=self._is_turned(name)))

    @staticmethod
    def _order(shape: Shape, *, turned: bool = False) -> Order:
        """The axes of what the program begins with in the order of the graph."""
        return channels_last(4) if len(shape) == 4 and not turned else tuple(range(len(shape)))

    def _is_turned(self, name: str) -> bool:
        """Whether the program itself makes a tensor (N, C, H, W) out of (N, H, W, C)."""
        alike = {Reference(name)}  # the input, and what is computed from it element by element
        for node in self.program.nodes:
            if node.get("self") in alike:
                if node.operator == "aten.permute.default" and node.get("dims") == _TO_CHANNELS_FIRST:
                    return True
                if node.output and self.program.shape(node.output) == self.program.shape(name):
                    alike.add(Reference(node.output))
        return False

    def output(self, name: str) -> str:
        """The float graph's tensor of an output."""
        return self.output_tensor(name, self.value(Reference(name)))

    # ------------------------------------------------------------------------------- what nodes read

    def tensor(self, read: Any) -> Value | Parameter:
        """A tensor, whether it is computed or not."""
        if not isinstance(read, Reference):
            raise UnsupportedError(f"it reads {str(read)[:40]}; expected a tensor")
        name = read.name
        if name in self._changed:
            raise UnsupportedError(f"it reads {name}, which {self._changed[name]} has changed in its place")
        if name in self._found:
            return self._found[name]
        if name not in self.program.parameters:
            raise UnsupportedError(f"it reads {name}, which is not known")
        parameter = Parameter(self.program.parameters[name], self.program.weights(name))
        self.spend(parameter.values.size)  # a file may name the same ones any number of times
        return parameter

    def value(self, read: Any) -> Value:
        """A tensor that is computed."""
        found = self.tensor(read)
        if isinstance(found, Parameter):
            raise UnsupportedError(f"it reads {read.name}, a constant")
        return found

    def parameter(self, read: Any) -> Parameter:
        """Weights and the like."""
        found = self.tensor(read)
        if not isinstance(found, Parameter):
            raise UnsupportedError("its weights are computed; expected parameters")
        return found

    def weights(self, read: Any) -> Array | None:
        """The values of a parameter; None where there is none."""
        return None if read is None else self.parameter(read).values

    def operand(self, read: Any) -> Value | NDArray[Any]:
        """A tensor, or a number."""
        if isinstance(read, int | float) and not isinstance(read, bool):
            return np.asarray(read, np.float64)
        found = self.tensor(read)
        return found.values if isinstance(found, Parameter) else found

    def named(self, node: Node, parameter: Parameter) -> Node:
        """The node, called as the module whose parameter it reads, unless that name is taken."""
        name = parameter.name.rpartition(".")[0]
        if not name or name in self._names:
            return node
        self._names.add(name)
        return replace(node, name=name)

    # ------------------------------------------------------------------------------- what nodes make

    def moved(
        self, node: Node, found: Value | Parameter, move: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> Value | Parameter:
        """What a node makes that only moves elements."""
        if isinstance(found, Parameter):
            return replace(found, values=move(found.values))
        return self.move(node, found, move(found.indices))

    def keep_stand_in(self, node: Node) -> None:
        """Let a node that cannot be lowered make a tensor, so that what follows can be looked at."""
        shape = self.program.shape(node.output)
        self._found[node.output] = self.given(node.output, shape, self._order(shape))

    def keep(
        self, node: Node, made: Value | Parameter, source: Reference | None, *, changes: bool, may_copy: bool
    ) -> None:
        """Let a node make this.

        Args:
            node: of the program.
            made: its output.
            source: what its output has the memory of; None: it has its own.
            changes: whether the node changes that memory, by whatever name it is read.
            may_copy: whether the output may have memory of its own after all.
        """
        shape = self.program.shape(node.output)
        if not self.program.is_float(node.output):
            raise UnsupportedError("to another type than float32")
        if made.shape != shape:
            raise ModelError(f'layer "{node.name}": it makes {made.shape}, and the file has {shape}')
        self.spend(math.prod(shape))
        memory = node.output if source is None else self._memory.get(source.name, source.name)
        place = node.output if source is None or may_copy else self._place.get(source.name, source.name)
        if changes and isinstance(made, Value):
            before = self.value(source)
            for name, other in self._found.items():
                if self._memory.get(name, name) != memory or name in self._changed or isinstance(other, Parameter):
                    continue
                same = other is before or np.array_equal(other.indices, before.indices)
                if same and self._place.get(name, name) == place:
                    self._found[name] = made
                else:
                    self._changed[name] = node.name
        self._found[node.output], self._memory[node.output], self._place[node.output] = made, memory, place
