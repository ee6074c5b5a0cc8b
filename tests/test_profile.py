"""What profile tells of a layer is what it takes by itself, whether its rows stream or not."""

from __future__ import annotations

import pytest

from tests.firmwares import STREAMED, firmware, model
from tinymbn.board import load_board
from tinymbn.profile import ICOUNT_SHIFT, Profile, profile
from tinymbn.stimuli import stimuli
from tinymbn.verify import identify
from tinymbn.workbench import Request, open_bench
from tinymbn_codegen.options import Options

WHOLE = Options(kernels="plain", without=frozenset({"streaming"}))
STREAMING = Options(kernels="plain", optimize="ram")
FED = Options(kernels="plain", optimize="ram", input="rows")


def profile_of(options: Options) -> Profile:
    board, graph = load_board("qemu-m3"), model(STREAMED)
    request = Request(graph=graph, board=board, folder=firmware(board.name, STREAMED, options), emulate=True)
    with open_bench(request, icount_shift=ICOUNT_SHIFT) as bench:
        identity = identify(bench.connection, graph, board)
        return profile(bench.connection, identity, next(stimuli(graph, [], 1, 0)), 1)


def test_rows_of_streamed_layers_are_counted_for_their_layer_alone() -> None:
    whole = profile_of(WHOLE)
    assert whole.unit == "instructions"
    for options in (STREAMING, FED):
        found = profile_of(options)
        assert any(cost.step.output.streams for cost in found.layers)
        for cost, alone in zip(found.layers, whole.layers, strict=True):
            assert cost.count == pytest.approx(alone.count, rel=0.01), cost.step.layer.name
        assert sum(cost.count for cost in found.layers) == pytest.approx(found.total, rel=0.005)
