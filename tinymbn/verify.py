"""Holds a firmware against the reference: every byte of every layer, over the link."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinymbn import __version__
from tinymbn.board import Board
from tinymbn.connection import Connection, require_identity
from tinymbn.elf import function_at
from tinymbn.errors import DeviceError, FirmwareError, LinkError, OptionError
from tinymbn.graph import Graph
from tinymbn.interpreter import Interpreter
from tinymbn.link.exchange import NoReplyError
from tinymbn.link.messages import Fault, Hello, LayerRows, ModelIdentity, Region, RunResult
from tinymbn.link.session import BoardResetError, Feed
from tinymbn.model_file import fingerprint
from tinymbn.stimuli import Stimulus
from tinymbn.summary import kind_text
from tinymbn.verdict import Cause, Difference, InputResult, Verdict
from tinymbn_codegen.constants import constant_crcs
from tinymbn_codegen.injection import Injection, injections
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import Plan, Step, make_plan

_T = TypeVar("_T")
Int8 = NDArray[np.int8]
Progress = Callable[[str, int, int], None]  # what is done; how many inputs are; the layer that computes

_RESTARTS = 3  # of one input, where the board was reset under it
_CYCLES_PER_MAC = 40  # generously, for a core without a 32-bit multiplication of its own
_CYCLES_PER_BYTE = 500  # of an output: requantisation
_SLOWEST_HZ = 100_000_000  # emulators reach that, and faster boards wait for the link
_CLOCK_TOLERANCE = 0.05  # the host's own clock is read over the link


@dataclass(frozen=True)
class Identity:
    """What was verified: a firmware that holds this model, as this plan has it."""

    hello: Hello
    model: ModelIdentity
    plan: Plan


def identify(connection: Connection, graph: Graph, board: Board) -> Identity:
    """The plan of the firmware that answers, made again here from what it says it was generated with.

    Raises:
        FirmwareError: it is of another board, model, or version of tinymbn.
    """
    require_identity(board, connection.hello, __version__)
    model = connection.session.model()
    sha256 = fingerprint(graph)
    if model.sha256 != sha256:
        raise FirmwareError(
            f'board {board.name}: holds another model, "{model.name}" with SHA-256 {model.sha256[:16]}...; '
            f"expected {sha256[:16]}...; flash it, or name the model it holds"
        )
    try:
        options = Options.parse(model.options)
    except OptionError as error:
        raise FirmwareError(
            f"board {board.name}: what it was generated with is damaged: {error}; flash it again"
        ) from None
    plan = make_plan(graph, options, sha256)
    sizes = (model.layers, model.input_bytes, model.output_bytes, model.arena_bytes)
    if sizes != (len(plan.steps), plan.input_bytes, plan.output_bytes, plan.arena_bytes):
        raise FirmwareError(f"board {board.name}: its plan of this model is another one; generate and flash it again")
    return Identity(connection.hello, model, plan)


def verify(
    connection: Connection,
    identity: Identity,
    stimuli: Iterable[Stimulus],
    progress: Progress = lambda what, done, layer: None,
) -> Verdict:
    """Compare constants, then each layer's output and the network's output on every input.

    Stops at the first difference, and finds out whether the layer's kernel or something around it is to blame.

    Args:
        connection: with the firmware.
        identity: of it.
        stimuli: inputs.
        progress: told what is done.

    Raises:
        LinkError: the board does not answer, or was reset again and again.
        FirmwareError: another firmware answers all of a sudden.
    """
    run = _Run(connection, identity)
    progress("constants", 0, 0)
    difference = run.wrong_constants()
    results: list[InputResult] = []
    for stimulus in stimuli if difference is None else ():
        progress(stimulus.name, len(results), 0)
        found = run.compare(stimulus, partial(progress, stimulus.name, len(results)))
        if isinstance(found, Difference):
            difference = found
            break
        results.append(found)
    return Verdict(
        first_difference=difference,
        layers=len(identity.plan.steps),
        bytes_compared=len(results) * run.bytes_of_one_input,
        inputs=tuple(results),
        stack=run.restarting(connection.session.stack),
        remarks=run.restarting(lambda: tuple(_remarks(connection))),
    )


class _Run:
    """One firmware against its reference."""

    def __init__(self, connection: Connection, identity: Identity) -> None:
        self._session = connection.session
        self._elf = connection.elf
        self._plan = identity.plan
        self._interpreter = Interpreter(identity.plan.graph, engine="plain")  # the specification itself
        self._expected_s = expected_run_s(identity)

    @property
    def bytes_of_one_input(self) -> int:
        """That are compared: every layer, and the outputs once more."""
        return sum(step.output.tensor.elements for step in self._plan.steps) + self._plan.output_bytes

    def wrong_constants(self) -> Difference | None:
        """The first layer whose constants are not the model's."""
        expected = constant_crcs(self._plan)
        found = self.restarting(lambda: self._session.constants(len(expected)))
        for step, ours, theirs in zip(self._plan.steps, expected, found, strict=True):
            if ours != theirs:
                return Difference(**_which(step), cause="constants", board=theirs, reference=ours)
        return None

    def compare(self, stimulus: Stimulus, on_layer: Callable[[int], None]) -> InputResult | Difference:
        """The result of one input, begun anew where the board was reset in the middle."""
        reference = [output for _, output in self._interpreter.steps(stimulus.values)]
        return self.restarting(lambda: self._compare(stimulus, reference, on_layer))

    def restarting(self, work: Callable[[], _T]) -> _T:
        """What the work gives, begun anew where the board was reset in the middle, but not for ever.

        Once it is also begun anew where no answer came: a board that was reset speaks at its first baud rate again.
        """
        before: Fault | None = None
        silences = 0
        for restarts_left in reversed(range(_RESTARTS + 1)):
            try:
                return work()
            except (BoardResetError, NoReplyError) as error:
                silences += isinstance(error, NoReplyError)
                if silences > 1:
                    raise
                fault = self._find_again(error)
                if not restarts_left or _is_repeated(fault, before):
                    told = _fault_text(fault, self._elf) if fault is not None else "it has no record of a fault"
                    raise LinkError(f"board: it is reset again and again in the same piece of work; {told}") from error
                before = fault
        raise AssertionError("the last try returns or raises")

    def _find_again(self, error: LinkError) -> Fault | None:
        """Sync with the board after an error, which is raised again where that fails; the board's record of a fault."""
        try:
            self._session.sync()
            return self._session.fault()
        except BoardResetError:
            return None  # once more: the next try will tell
        except (LinkError, DeviceError):
            raise error from None

    def _compare(
        self, stimulus: Stimulus, reference: Sequence[Int8], on_layer: Callable[[int], None]
    ) -> InputResult | Difference:
        plan, session = self._plan, self._session
        crcs = tuple(zlib.crc32(output.tobytes()) for output in reference)
        self._infer(stimulus, traced=True, on_layer=on_layer)
        records = session.records(len(crcs))
        for step, record, output, crc in zip(plan.steps, records, reference, crcs, strict=True):
            if (record.bytes, record.crc32) != (output.nbytes, crc):
                return self._locate(step, stimulus, reference)
        result = self._infer(stimulus, traced=False, on_layer=on_layer)
        values = self._values(stimulus, reference)
        expected = np.concatenate([values[place.tensor.name].ravel() for place in plan.outputs])
        if result.output_crc32 != zlib.crc32(expected.tobytes()):
            found = np.frombuffer(session.read(Region.OUTPUT, 0, expected.nbytes), np.int8)
            return self._wrong_output(stimulus, values, found)
        return InputResult(stimulus.name, crcs, result.output_crc32)

    def _infer(self, stimulus: Stimulus, *, traced: bool, on_layer: Callable[[int], None]) -> RunResult:
        """Run the network; where no answer comes, say in what."""
        heard: list[int] = []

        def tell(layer: int) -> None:
            heard.append(layer)
            on_layer(layer)

        data = stimulus.values.tobytes()
        try:
            return self._session.infer(data, traced=traced, expected_s=self._expected_s, on_progress=tell)
        except NoReplyError as error:
            where = f", last heard of in layer {heard[-1]}" if heard else ""
            way = "layer by layer" if traced else "whole"
            raise NoReplyError(f"{error}; it was to run {stimulus.name}, {way}{where}", silent=error.silent) from error

    def _values(self, stimulus: Stimulus, reference: Sequence[Int8]) -> dict[str, Int8]:
        """Every tensor of the reference, by name."""
        made = {step.output.tensor.name: out for step, out in zip(self._plan.steps, reference, strict=True)}
        return {self._plan.graph.input: stimulus.values, **self._plan.graph.constants, **made}

    def _locate(self, step: Step, stimulus: Stimulus, reference: Sequence[Int8]) -> Difference:
        """What differs in the first layer that does, and whether it differs on the reference's input as well."""
        expected = reference[step.index]
        data = self._session.dump(step.index, expected.nbytes, stimulus.values.tobytes(), expected_s=self._expected_s)
        values = self._values(stimulus, reference)
        alone = b"".join(self._alone(step, injection) for injection in injections(self._plan, step, values))
        cause: Cause = "memory" if alone == expected.tobytes() else "kernel"
        board = np.frombuffer(alone if cause == "kernel" else data, np.int8).reshape(expected.shape)
        return _difference(step, cause, stimulus.name, board, expected)

    def _alone(self, step: Step, injection: Injection) -> bytes:
        """Rows of a layer, made alone of the reference's input."""
        feed: list[Feed] = [(Region.ARENA, offset, data) for offset, data in injection.pieces]
        rows = LayerRows(step.index, injection.first, injection.count)
        rows_bytes = step.output.tensor.elements // step.calls * injection.count
        return self._session.dump_alone(rows, rows_bytes, feed, expected_s=self._expected_s)

    def _wrong_output(self, stimulus: Stimulus, values: Mapping[str, Int8], found: Int8) -> Difference:
        """The first output tensor that ``run`` gives out wrongly."""
        at = 0
        makers = {step.output.tensor.name: step for step in self._plan.steps}
        for place in self._plan.outputs:
            expected = values[place.tensor.name]
            board = found[at : at + expected.size].reshape(expected.shape)
            at += expected.size
            if not np.array_equal(board, expected):
                step = makers.get(place.tensor.name, self._plan.steps[-1])
                return _difference(step, "run", stimulus.name, board, expected)
        raise LinkError("board: the CRC of its output is not that of the output it sends; a damaged link or board")


def expected_run_s(identity: Identity) -> float:
    """Seconds that a run of the network takes at most, on a board as slow as they come."""
    hz = min(identity.hello.clock_hz or _SLOWEST_HZ, _SLOWEST_HZ)
    elements = sum(step.output.tensor.elements for step in identity.plan.steps)
    return 0.5 + (_CYCLES_PER_MAC * identity.plan.graph.macs + _CYCLES_PER_BYTE * elements) / hz


def _is_repeated(fault: Fault | None, before: Fault | None) -> bool:
    """Whether the same instruction has faulted once more."""
    return fault is not None and before is not None and fault.pc == before.pc and fault.count > before.count


def _fault_text(fault: Fault, elf: Path | None) -> str:
    """What a fault record says, and which function it was in if that can be known."""
    function = function_at(elf, fault.pc) if elf is not None else None
    place = f" in {function}" if function else ""
    return (
        f"fault at PC 0x{fault.pc:08x}{place}, LR 0x{fault.lr:08x}, SP 0x{fault.sp:08x}, CFSR 0x{fault.cfsr:08x}, "
        f"HFSR 0x{fault.hfsr:08x}, BFAR 0x{fault.bfar:08x}"
    )


def _which(step: Step) -> dict[str, Any]:
    return {"index": step.index, "layer": step.layer.name, "kind": kind_text(step.layer)}


def _difference(step: Step, cause: Cause, name: str, board: Int8, reference: Int8) -> Difference:
    """Two tensors compared; where they are equal after all, the board did not do the same twice."""
    wrong = np.argwhere(board != reference)
    if len(wrong) == 0:
        return Difference(**_which(step), cause="unsteady", input=name, total=reference.size)
    first = tuple(int(axis) for axis in wrong[0])
    apart = np.abs(board.astype(np.int16) - reference.astype(np.int16))
    return Difference(
        **_which(step),
        cause=cause,
        input=name,
        different=len(wrong),
        total=reference.size,
        largest=int(apart.max()),
        position=first,
        board=int(board[first]),
        reference=int(reference[first]),
    )


def _remarks(connection: Connection) -> Iterator[str]:
    """What is not as it should be, though the bytes may be right."""
    hello, machine = connection.hello, connection.machine
    if hello.board_status:
        yield f"the clock's bring-up failed at step {hello.board_status}: the board runs slower than it should"
    if machine is None:
        measured = connection.session.measure_counter_hz(hello.counter_bits)
        if abs(measured / hello.counter_hz - 1) > _CLOCK_TOLERANCE:
            yield f"its clock runs at {measured / hello.counter_hz:.2f} times the nominal rate"
    else:
        yield from machine.findings()
