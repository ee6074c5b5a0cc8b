"""The kernels for AVX-512 VNNI, emulated, give the bytes of the plain ones; this computer may have them or not."""

from __future__ import annotations

import numpy as np
import pytest

from tests import bochs
from tests.emulated_program import run_layers
from tests.engines import edge_networks, random_input, random_networks
from tests.graphs import every_kernel
from tests.shared import SHARED, needs_shared
from tinymbn import Graph, Interpreter, load_model
from tinymbn.paths import SHIPPED_MODEL

pytestmark = pytest.mark.skipif(bochs.missing() is not None, reason=str(bochs.missing()))


def assert_layers_are_equal(graph: Graph, seed: int) -> None:
    x = random_input(graph, seed)
    expected = {layer.output: output for layer, output in Interpreter(graph, "plain").steps(x)}
    compared = 0
    for layer, found in run_layers(graph, x):
        np.testing.assert_array_equal(found, expected[layer.output], f'layer "{layer.name}": {layer.kind}')
        compared += found.size
    assert compared > 0


def test_the_model_that_ships() -> None:
    assert_layers_are_equal(load_model(SHIPPED_MODEL), 3)


def test_every_kind_of_layer() -> None:
    for seed in range(3):
        assert_layers_are_equal(every_kernel(), seed)


def test_networks_at_the_edges_of_kernels() -> None:
    for seed, graph in enumerate(edge_networks()):
        assert_layers_are_equal(graph, seed)


def test_random_networks(pytestconfig: pytest.Config) -> None:
    for seed, graph in enumerate(random_networks(300, pytestconfig.getoption("--examples"))):
        assert_layers_are_equal(graph, seed)


@needs_shared
@pytest.mark.parametrize("model", ["vww_96_int8", "person_detect", "mobilenet_v1_0.25_128_quant"])
def test_real_models(model: str) -> None:
    assert_layers_are_equal(load_model(SHARED / "models" / f"{model}.tflite"), 2)
