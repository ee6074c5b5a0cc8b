"""Measures the generated code on emulated Cortex-M cores, and writes docs/benchmarks.md.

    python benchmarks/cortex_m.py                          # everything, 90 minutes at most
    python benchmarks/cortex_m.py --quick                  # what the first table needs
    python benchmarks/cortex_m.py --models person_detect --boards qemu-m4

Only a run of everything replaces its part of docs/benchmarks.md; any run writes where -o says. Tables go to standard
output, progress to standard error. The exit code is 1 if a byte of any layer is not the reference's, or a case failed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a script, too

from benchmarks.cases import BOARDS, MODELS, PLAIN, Case, Variant, choose_cases
from benchmarks.counter import Counter, find_counter
from benchmarks.document import MadeNetwork, Run, replace_part, write_document
from benchmarks.measurement import Measurement, Model, measure
from benchmarks.networks import NETWORKS, network_file, statistics
from benchmarks.shared import CHECKOUT, PICTURE, model_file
from benchmarks.targets import TARGETS
from tinymbn import __version__, load_model
from tinymbn.board import load_board
from tinymbn.emulators.qemu import PROGRAM
from tinymbn.errors import OptionError, PlanError, TinymbnError, ToolError
from tinymbn.files import require_writable, write_file
from tinymbn.paths import SAMPLE_PICTURES
from tinymbn.terminal import complain

DOCUMENT = CHECKOUT / "docs" / "benchmarks.md"

# For the time that is left: what the commands take, and what QEMU does under the plugin on an ordinary PC. The pace of
# what is done corrects it.
_COMMANDS_S = 10.0
_INSTRUCTIONS_A_SECOND = 20e6
_RUNS = 2  # verify runs a picture layer by layer, then whole
_SLOW_INSTRUCTIONS_A_MAC = 7.0  # plain kernels, and any on a core without DSP instructions
_FAST_INSTRUCTIONS_A_MAC = 1.5
_HELIUM_INSTRUCTIONS_A_MAC = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code."""
    wanted = _parse(arguments)
    try:
        return _run(wanted)
    except TinymbnError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure generated code on emulated Cortex-M cores.", epilog=f"Models: {', '.join(MODELS)}."
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="M", help="default: all")
    parser.add_argument("--boards", nargs="+", default=BOARDS, metavar="B", help=f"default: {' '.join(BOARDS)}")
    parser.add_argument("--quick", action="store_true", help="only what the table of targets needs")
    parser.add_argument("--plain", action="store_true", help="the plain kernels instead of the choices of --optimize")
    parser.add_argument("--networks", type=Path, metavar="DIR", help="keep the networks of random weights here")
    parser.add_argument("--minutes", type=float, default=90, metavar="N", help="begin nothing after; default: 90")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: docs/benchmarks.md, if all is run")
    return parser.parse_args(arguments)


def _run(wanted: argparse.Namespace) -> int:
    everything = set(wanted.models) == set(MODELS) and set(wanted.boards) >= set(BOARDS)
    whole = everything and not wanted.quick and not wanted.plain
    output = wanted.output or (DOCUMENT if whole else None)
    if output is not None:
        require_writable(output)
    _require_qemu(wanted.boards)
    counter = _counter()
    with ExitStack() as stack:
        folder = wanted.networks or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tinymbn-networks-")))
        models = _models(wanted.models, folder)
        needed = [case for target in TARGETS for case in target.cases]
        cases = choose_cases(tuple(models), wanted.boards, needed, quick=wanted.quick, plain=wanted.plain)
        if not cases:
            raise OptionError("nothing to measure: no model that is there, or no target that is judged by it")
        campaign = _Campaign(cases, models, counter, wanted.minutes * 60)
        campaign.run()
        networks = [_made(name, model.file) for name, model in models.items() if name in NETWORKS]
    measured = campaign.measured
    text = write_document(Run(measured, campaign.failed, networks, _tools(measured.values(), counter)))
    print(text, end="", flush=True)
    if output is not None:
        if counter is None or campaign.left or (whole and len(models) < len(MODELS)):
            _say(f"{output}: not written, since not everything was measured")
        else:
            write_file(output, replace_part(output, "cortex-m", text).encode())
            _say(f"{output}: written")
    return 0 if not campaign.failed and all(measurement.equal for measurement in measured.values()) else 1


class _Campaign:
    """Measures one case after another.

    Args:
        cases: in this order.
        models: of the cases, by name.
        counter: None: nothing is counted.
        limit_s: no case is begun after it.
    """

    def __init__(
        self, cases: Sequence[Case], models: Mapping[str, Model], counter: Counter | None, limit_s: float
    ) -> None:
        self.measured: dict[Case, Measurement] = {}
        self.failed: dict[Case, str] = {}
        self.left = list(cases)
        self._models = models
        self._counter = counter
        self._limit_s = limit_s
        self._expected_s = {case: _expected_s(case.variant, case.board, models[case.model].macs) for case in cases}
        self._picture = PICTURE if PICTURE.is_file() else SAMPLE_PICTURES / "7.png"

    def run(self) -> None:
        """Measure all there is time for."""
        total, begin, expected_s = len(self.left), time.monotonic(), 0.0
        _say(f"{total} to measure, about {_minutes(self._left_s())}")
        while self.left and time.monotonic() - begin < self._limit_s:
            case = self.left.pop(0)
            told = self._measure(case)
            expected_s += self._expected_s[case]
            pace = (time.monotonic() - begin) / expected_s
            _say(f"[{total - len(self.left)}/{total}, {_minutes(pace * self._left_s())} left] {case.text}: {told}")
        for case in self.left:
            _say(f"not begun, the time is up: {case.text}")

    def _left_s(self) -> float:
        return sum(self._expected_s[case] for case in self.left)

    def _measure(self, case: Case) -> str:
        """Measure one; what there is to say of it."""
        with tempfile.TemporaryDirectory(prefix="tinymbn-benchmark-") as scratch:
            try:
                found = measure(case, self._models[case.model], self._picture, self._counter, Path(scratch))
            except PlanError as error:
                return f"left out: {error}"
            except ToolError as error:
                self.failed[case] = str(error)
                return f"FAILED: {error}"
        self.measured[case] = found
        counted = f"{found.counts.instructions / 1e6:.2f} M instructions, " if found.counts is not None else ""
        equal = "equal" if found.equal else f"DIFFERS: {found.difference}"
        return f"{counted}{found.activation_bytes:,} bytes of activations, {equal}"


def _expected_s(variant: Variant, board: str, macs: int) -> float:
    """About what a case takes on an ordinary PC."""
    core = load_board(board).core
    if variant == PLAIN or core in ("cortex-m0", "cortex-m0plus", "cortex-m3"):
        a_mac = _SLOW_INSTRUCTIONS_A_MAC
    else:
        a_mac = _HELIUM_INSTRUCTIONS_A_MAC if core == "cortex-m55" else _FAST_INSTRUCTIONS_A_MAC
    return _COMMANDS_S + _RUNS * macs * a_mac / _INSTRUCTIONS_A_SECOND


def _require_qemu(boards: Iterable[str]) -> None:
    for name in boards:
        emulator = load_board(name).emulator
        if emulator is None or emulator.kind != "qemu":
            raise OptionError(f'board "{name}": not one that QEMU runs; expected one such as {", ".join(BOARDS)}')
    if shutil.which(PROGRAM) is None:
        raise ToolError(f"{PROGRAM}: not found; on Debian and Ubuntu: apt-get install qemu-system-arm")


def _counter() -> Counter | None:
    try:
        return find_counter()
    except ToolError as error:
        _say(str(error))
        return None


def _models(names: Iterable[str], folder: Path) -> dict[str, Model]:
    """The models that are there, made where no file has them."""
    found = {}
    for name in names:
        if name in NETWORKS:
            _say(f"making {name}")
            file = network_file(name, folder)
        else:
            file = model_file(name)
        if not file.is_file():
            _say(f"{file}: not found; left out")
            continue
        graph = load_model(file)
        found[name] = Model(file, graph.macs, graph.quantized_input.shape[0])
    return found


def _made(name: str, file: Path) -> MadeNetwork:
    graph = load_model(file)
    return MadeNetwork(name, graph.macs, sum(layer.parameters for layer in graph.layers), statistics(graph))


def _tools(measured: Iterable[Measurement], counter: Counter | None) -> list[tuple[str, str]]:
    """What has to be the same for the same figures."""
    compilers = sorted({measurement.compiler for measurement in measured})
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    return [
        ("tinymbn", __version__),
        *(("compiler", compiler) for compiler in compilers),
        ("emulator", done.stdout.partition("\n")[0]),
        ("counting plugin", counter.version if counter is not None else "none: nothing was counted"),
    ]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
