"""State dictionaries of PyTorch: what tinymbn makes of them computes what PyTorch computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import Run
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.pytorch.state_dict import from_state_dict
from tinymbn.quantize import FloatInterpreter

# (expansion, channels, repeats, stride), as torchvision has them.
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def state_dict(width: float = 0.25, classes: int = 7) -> dict[str, np.ndarray]:
    """Arrays by the names of torchvision's mobilenet_v2, random."""
    chance = np.random.default_rng(0)
    state: dict[str, np.ndarray] = {}

    def unit(name: str, made: int, read: int, kernel: int, norm: str, conv: str) -> None:
        scale = np.sqrt(2 / (read * kernel**2))
        state[f"{name}.{conv}weight"] = chance.normal(0, scale, (made, read, kernel, kernel)).astype(np.float32)
        for which, values in (
            ("weight", chance.uniform(0.5, 1.5, made)),
            ("bias", chance.normal(0.3, 0.3, made)),
            ("running_mean", chance.normal(0, 0.2, made)),
            ("running_var", chance.uniform(0.5, 1.5, made)),
        ):
            state[f"{name}.{norm}{which}"] = values.astype(np.float32)
        state[f"{name}.{norm}num_batches_tracked"] = np.array(3)

    def scaled(channels: float) -> int:
        return max(8, int(channels * width + 4) // 8 * 8)

    read = scaled(32)
    unit("features.0", read, 3, 3, "1.", "0.")
    index = 0
    for expansion, channels, repeats, _ in BLOCKS:
        for _ in range(repeats):
            index += 1
            name, made, wide = f"features.{index}.conv", scaled(channels), read * expansion
            at = 0
            if expansion != 1:
                unit(f"{name}.0", wide, read, 1, "1.", "0.")
                at = 1
            unit(f"{name}.{at}", wide, 1, 3, "1.", "0.")
            unit(name, made, wide, 1, f"{at + 2}.", f"{at + 1}.")
            read = made
    unit("features.18", 1280, read, 1, "1.", "0.")
    state["classifier.1.weight"] = chance.normal(0, 0.05, (classes, 1280)).astype(np.float32)
    state["classifier.1.bias"] = chance.normal(size=classes).astype(np.float32)
    return state


def torch_output(state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """What PyTorch's functions make of (N, H, W, C), in the order of torchvision's modules."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    tensors = {name: torch.from_numpy(values) for name, values in state.items() if values.ndim}

    def unit(value: Any, conv: str, norm: str, stride: int = 1, relu6: bool = True) -> Any:
        weight = tensors[f"{conv}.weight"]
        groups = value.shape[1] if weight.shape[1] == 1 and value.shape[1] > 1 else 1
        value = functional.conv2d(value, weight, stride=stride, padding=weight.shape[2] // 2, groups=groups)
        arrays = [tensors[f"{norm}.{which}"] for which in ("running_mean", "running_var", "weight", "bias")]
        value = functional.batch_norm(value, *arrays, eps=1e-5)
        return functional.relu6(value) if relu6 else value

    value = unit(torch.from_numpy(x.transpose(0, 3, 1, 2)), "features.0.0", "features.0.1", 2)
    index = 0
    for expansion, _, repeats, first in BLOCKS:
        for repeat in range(repeats):
            index += 1
            name, stride, before, at = f"features.{index}.conv", first if repeat == 0 else 1, value, 0
            if expansion != 1:
                value, at = unit(value, f"{name}.0.0", f"{name}.0.1"), 1
            value = unit(value, f"{name}.{at}.0", f"{name}.{at}.1", stride)
            value = unit(value, f"{name}.{at + 1}", f"{name}.{at + 2}", relu6=False)
            if stride == 1 and before.shape == value.shape:
                value = value + before
    value = unit(value, "features.18.0", "features.18.1").mean(dim=(2, 3))
    logits = value @ tensors["classifier.1.weight"].T + tensors["classifier.1.bias"]
    return np.asarray(functional.softmax(logits, dim=1).numpy())


@pytest.mark.parametrize("resolution", [64, 95])
def test_torchvisions_mobilenet_v2_computes_what_pytorch_does(resolution: int) -> None:
    state = state_dict()
    graph = from_state_dict(state, resolution)
    x = np.random.default_rng(1).normal(size=(3, resolution, resolution, 3)).astype(np.float32)
    np.testing.assert_allclose(FloatInterpreter(graph).run(x), torch_output(state, x), atol=2e-5)


OWN_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of the depthwise layers


def own_state_dict(width: float = 0.25, channels: int = 3, classes: int = 5) -> dict[str, np.ndarray]:
    """Arrays by the names of the MobileNetV1 of examples/cifar10, random: its stages are pad, conv, norm, ReLU6."""
    chance = np.random.default_rng(0)
    state: dict[str, np.ndarray] = {}
    widths = [int(made * width) for made in (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
    read = int(32 * width)
    shapes = [(read, channels, 3, 3)]
    for made in widths:
        shapes += [(read, 1, 3, 3), (made, read, 1, 1)]
        read = made
    for k, shape in enumerate(shapes):
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f"{k}.1.weight"] = chance.normal(0, scale, shape).astype(np.float32)
        for which, low, high in (("weight", 0.5, 1.5), ("bias", 0, 0.6), ("running_mean", -0.3, 0.3)):
            state[f"{k}.2.{which}"] = chance.uniform(low, high, shape[0]).astype(np.float32)
        state[f"{k}.2.running_var"] = chance.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        state[f"{k}.2.num_batches_tracked"] = np.array(3)
    state[f"{len(shapes) + 2}.weight"] = chance.normal(0, 0.1, (classes, read)).astype(np.float32)
    state[f"{len(shapes) + 2}.bias"] = chance.normal(size=classes).astype(np.float32)
    return state


def own_torch_output(state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """What PyTorch's functions make of (N, H, W, C), padded as TensorFlow pads."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    tensors = {name: torch.from_numpy(values) for name, values in state.items() if values.ndim}
    value = torch.from_numpy(x.transpose(0, 3, 1, 2))
    strides = [2, *(each for stride in OWN_STRIDES for each in (stride, 1))]
    for k, stride in enumerate(strides):
        weight = tensors[f"{k}.1.weight"]
        around = []
        for size in (value.shape[3], value.shape[2]):
            total = max(0, (-(-size // stride) - 1) * stride + weight.shape[2] - size)
            around += [total // 2, total - total // 2]
        groups = value.shape[1] if weight.shape[1] == 1 and value.shape[1] > 1 else 1
        value = functional.conv2d(functional.pad(value, around), weight, stride=stride, groups=groups)
        arrays = [tensors[f"{k}.2.{which}"] for which in ("running_mean", "running_var", "weight", "bias")]
        value = functional.relu6(functional.batch_norm(value, *arrays, eps=1e-3))
    last = len(strides) + 2
    logits = value.mean(dim=(2, 3)) @ tensors[f"{last}.weight"].T + tensors[f"{last}.bias"]
    return np.asarray(functional.softmax(logits, dim=1).numpy())


@pytest.mark.parametrize(("resolution", "channels"), [(48, 3), (61, 3), (32, 1)])
def test_the_mobilenet_v1_of_cifar10_computes_what_pytorch_does(resolution: int, channels: int) -> None:
    state = own_state_dict(channels=channels)
    graph = from_state_dict({f"module.{name}": values for name, values in state.items()}, resolution)
    x = np.random.default_rng(1).normal(size=(3, resolution, resolution, channels)).astype(np.float32)
    np.testing.assert_allclose(FloatInterpreter(graph).run(x), own_torch_output(state, x), atol=2e-5)


def test_shapes_of_the_mobilenet_v1_follow_from_the_arrays() -> None:
    graph = from_state_dict(own_state_dict(0.5, classes=10), 48)
    assert graph.name == "mobilenet_v1_0.5_48"
    assert graph.shapes["scores"] == (10,)
    assert sum(layer.kind == "depthwise" for layer in graph.layers) == 13
    assert (graph.macs, graph.parameters) == (7_546_496, 818_250)  # as examples/cifar10 has it
    with pytest.raises(ModelError, match=r'tensor "29\.bias" is missing'):
        from_state_dict({name: v for name, v in own_state_dict().items() if name != "29.bias"}, 48)


def test_shapes_follow_from_the_arrays() -> None:
    graph = from_state_dict(state_dict(0.35, 11), 96)
    assert graph.shapes["scores"] == (11,)
    assert graph.name == "mobilenet_v2_0.25_96"  # 8 of 32 channels: what alpha it was made with is not known
    # One more than at alpha 1: the first block's input and output are as wide as each other here.
    assert sum(layer.kind == "add" for layer in graph.layers) == 11


def test_what_is_missing_or_no_number_is_named() -> None:
    state = state_dict()
    with pytest.raises(ModelError, match=r'tensor "features\.7\.conv\.3\.running_var" is missing'):
        from_state_dict({k: v for k, v in state.items() if k != "features.7.conv.3.running_var"}, 64)
    with pytest.raises(ModelError, match=r'tensor "features\.18\.0\.weight" has values that are not finite'):
        from_state_dict(state | {"features.18.0.weight": np.full((1280, 80, 1, 1), np.inf, np.float32)}, 64)
    with pytest.raises(UnsupportedError, match="expected those of torchvision's mobilenet_v2"):
        from_state_dict({"layer1.0.conv1.weight": np.zeros((1, 1, 1, 1))}, 64)


def test_the_command_reads_a_file(run: Run) -> None:
    torch = pytest.importorskip("torch")
    torch.save({name: torch.from_numpy(values) for name, values in state_dict().items()}, "v2.pt")
    Path("p").mkdir()
    refused = run("quantize", "v2.pt", "--calibrate", "p", "-o", "model.npz")
    assert refused.code == 2
    assert "--resolution R" in refused.err
    Path("bad.pt").write_bytes(b"nothing")
    refused = run("quantize", "bad.pt", "--calibrate", "p", "--resolution", 64, "-o", "model.npz")
    assert refused.code == 3
    assert "bad.pt: damaged, or not a state_dict" in refused.err


def test_a_pickled_network_is_not_run_and_told_what_to_save_instead(run: Run) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    torch.save(network, "whole.pt")
    Path("p").mkdir()
    refused = run("quantize", "whole.pt", "--calibrate", "p", "-o", "model.npz")
    assert refused.code == 3
    assert "it holds torch.nn.modules.container.Sequential, and tinymbn reads tensors alone" in refused.err
    assert "torch.save(network.state_dict(), path), or torch.export.save" in refused.err
    assert refused.err.count("\n") == 1
