"""Programs of torch.export: what tinymbn makes of them computes what PyTorch computes, and int8 is near to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Run
from tests.firmwares import expect_equal, require_tools
from tinymbn import Interpreter, load_model
from tinymbn.board import load_board
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.firmware import write_firmware
from tinymbn.image import load_picture, to_input
from tinymbn.importers.pytorch.exported import import_exported
from tinymbn.quantize import FloatGraph, FloatInterpreter
from tinymbn_codegen.options import Options

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional

# What PyTorch 2.13 complains of in itself while it exports and saves, and of a same padding that takes it a copy.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
    pytest.mark.filterwarnings("ignore:No complete tensor found in the group:UserWarning"),
]

BOTH = pytest.mark.parametrize("decomposed", [False, True], ids=["training", "core"])


class Net(nn.Module):  # type: ignore[misc, name-defined]
    """Modules, and what is computed with them."""

    def __init__(self, forward: Callable[..., Any], **modules: Any) -> None:
        super().__init__()
        self._compute = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Any) -> Any:
        return self._compute(self, x)


def randomised(network: Any, seed: int = 0) -> Any:
    """The network for inference, with batch-norms that change something."""
    chance = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=chance)
            module.running_var.uniform_(0.5, 1.5, generator=chance)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=chance)
                nn.init.normal_(module.bias, 0, 0.3, generator=chance)
    return network.eval()


def exported(network: Any, shape: tuple[int, ...], path: Path, *, decomposed: bool = False, **options: Any) -> Path:
    program = torch.export.export(network, (torch.zeros(shape),), **options)
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return path


def compare(network: Any, graph: FloatGraph, shape: tuple[int, ...], *, last: bool = False) -> None:
    """Outputs of both for the same inputs, maps channels last."""
    x = torch.randn((3, *shape[1:]), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = torch.stack([network(picture[None].clone()) for picture in x]).numpy()
    given = x.numpy() if last else x.numpy().transpose(0, 2, 3, 1)
    found = np.asarray(FloatInterpreter(graph).run(given))
    if expected.ndim == 5 and not last:
        expected = expected.transpose(0, 1, 3, 4, 2)
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-5, atol=1e-5)


def conv(read: int = 3, made: int = 8, kernel: Any = 3, **options: Any) -> Any:
    return nn.Conv2d(read, made, kernel, **options)


class Normalised(Net):
    """With a mean and a deviation that are not trained."""

    def __init__(self, forward: Callable[..., Any], **modules: Any) -> None:
        super().__init__(forward, **modules)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.25]))


SMALL: dict[str, Callable[[], Any]] = {
    "conv": conv,
    "conv padded": lambda: conv(kernel=(3, 5), stride=(2, 1), padding=(1, 2), bias=False),
    "conv dilated": lambda: conv(kernel=3, dilation=(2, 1), padding=(2, 1)),
    "conv same": lambda: conv(kernel=(4, 5), padding="same"),
    "conv same dilated": lambda: conv(kernel=(2, 3), padding="same", dilation=(3, 2)),
    "conv valid": lambda: conv(kernel=2, padding="valid", stride=2),
    "depthwise": lambda: conv(made=3, groups=3, padding=1, stride=2),
    "depthwise with a multiplier": lambda: conv(made=12, groups=3, bias=False),
    "channels last in memory": lambda: conv().to(memory_format=torch.channels_last),
    "channels last in memory, averaged": lambda: nn.Sequential(
        conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).to(memory_format=torch.channels_last),
    "conv and batch-norm": lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU6()),
    "batch-norm first": lambda: nn.Sequential(nn.BatchNorm2d(3, affine=False), conv(), nn.ReLU(inplace=True)),
    "a module called twice": lambda: Net(lambda s, x: s.c(s.c(x)), c=conv(made=3)),
    "clamps": lambda: Net(
        lambda s, x: functional.hardtanh(s.c(x), 0, 6) + torch.clamp(s.c(x), min=0) + s.c(x).clamp(0.0, 6.0), c=conv()
    ),
    "clamps to infinity": lambda: Net(lambda s, x: functional.hardtanh(s.c(x), 0.0, float("inf")), c=conv()),
    "clamps in place": lambda: Net(lambda s, x: functional.relu6(s.c(x).relu_(), inplace=True).clamp_(0, 6), c=conv()),
    "residual": lambda: Net(lambda s, x: x + s.c(x), c=conv(made=3, padding=1)),
    "scaled by a channel's mean": lambda: Net(lambda s, x: x + s.c(x).mean((2, 3), keepdim=True), c=conv(made=3)),
    "global average": lambda: nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    "global average squeezed": lambda: Net(
        lambda s, x: s.l(functional.adaptive_avg_pool2d(s.c(x), 1).squeeze()), c=conv(), l=nn.Linear(8, 5)
    ),
    "mean": lambda: Net(lambda s, x: s.l(s.c(x).mean([2, 3])), c=conv(), l=nn.Linear(8, 5, bias=False)),
    "mean of a mean": lambda: Net(lambda s, x: s.c(x).mean(3).mean(-1), c=conv()),
    "mean of columns": lambda: Net(lambda s, x: s.c(x).mean(3, keepdim=True).mean(2, keepdim=True), c=conv()),
    "adaptive average": lambda: nn.Sequential(conv(padding=1), nn.AdaptiveAvgPool2d((3, 17))),
    "average": lambda: nn.Sequential(nn.AvgPool2d((2, 3), (2, 1))),
    "average with zeros": lambda: nn.Sequential(nn.AvgPool2d(3, 2, padding=1)),
    "average without zeros": lambda: nn.Sequential(nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)),
    "average of what is left": lambda: nn.Sequential(nn.AvgPool2d(2, ceil_mode=True)),
    "max": lambda: nn.Sequential(nn.MaxPool2d(3, 2, padding=1)),
    "max of what is left": lambda: nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)),
    "zeros before": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 1, 0)), conv(stride=2, padding=1)),
    "zeros before an average": lambda: nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.AvgPool2d(2)),
    "flatten of a map": lambda: nn.Sequential(
        conv(), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.LazyLinear(6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)
    ),
    "flatten with batch-norm": lambda: nn.Sequential(
        conv(stride=4), nn.Flatten(), nn.LazyBatchNorm1d(), nn.ReLU6(), nn.LazyLinear(5), nn.Softmax(dim=-1)
    ),
    "view": lambda: Net(lambda s, x: s.l(s.c(x).view(x.shape[0], -1)), c=conv(stride=5), l=nn.LazyLinear(3)),
    "reshape and unsqueeze": lambda: Net(
        lambda s, x: s.c2(s.c(x).mean((2, 3)).unsqueeze(2).unsqueeze(3)).reshape(-1, 4), c=conv(), c2=conv(8, 4, 1)
    ),
    "flatten of everything": lambda: Net(lambda s, x: s.l(torch.flatten(s.c(x))), c=conv(stride=5), l=nn.LazyLinear(3)),
    "matmul": lambda: Net(lambda s, x: s.c(x).mean((2, 3)) @ s.l.weight.t(), c=conv(), l=nn.Linear(8, 5)),
    "channels last in between": lambda: Net(
        lambda s, x: s.l(s.c(x).permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2), c=conv(), l=nn.Linear(8, 5)
    ),
    "normalised by buffers": lambda: Normalised(lambda s, x: s.c((x - s.mean) / s.std[:, None, None]), c=conv()),
    "normalised in place": lambda: Normalised(lambda s, x: s.c(x.clone().sub_(s.mean).div_(2.5)), c=conv()),
    "normalised by tensors": lambda: Net(
        lambda s, x: s.c((x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) * torch.tensor(1.7)), c=conv()
    ),
    "scaled by numbers": lambda: Net(lambda s, x: 1 - (s.c(x) * 2 + 0.5) / 3, c=conv()),
    "scaled by parameters": lambda: Net(
        lambda s, x: s.c(x) * s.c.bias.view(1, -1, 1, 1) + s.c.bias[:, None, None], c=conv()
    ),
    "scaled by pixel": lambda: Net(lambda s, x: s.c(x * s.p.weight), c=conv(), p=nn.Linear(17, 12)),
    "zeros before a ReLU": lambda: nn.Sequential(conv(), nn.ZeroPad2d(1), nn.ReLU(), conv(8, 4)),
    "rows and columns exchanged, twice": lambda: Net(
        lambda s, x: s.c2(s.c(x).transpose(2, 3).relu().transpose(3, 2)), c=conv(), c2=conv(8, 4)
    ),
    "flatten of a map turned round": lambda: Net(
        lambda s, x: s.l(s.c(x).permute(0, 3, 1, 2).flatten(1)), c=conv(stride=5), l=nn.LazyLinear(3)
    ),
    "softmax": lambda: Net(lambda s, x: s.c(x).mean((2, 3)).softmax(1), c=conv()),
    "softmax of a map": lambda: Net(lambda s, x: s.c(x).softmax(dim=1), c=conv()),
    "sigmoid": lambda: Net(lambda s, x: torch.sigmoid(s.c(x).sigmoid_().mean((2, 3))), c=conv(made=1)),
    "nothings": lambda: Net(
        lambda s, x: functional.dropout2d(s.c(x).contiguous().clone().float().detach(), 0.5, False), c=conv()
    ),
}


@BOTH
@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_computes_what_pytorch_does(name: str, tmp_path: Path, decomposed: bool) -> None:
    torch.manual_seed(0)
    shape = (1, 3, 12, 17)
    network = SMALL[name]()
    network.eval()(torch.zeros(shape))  # what is lazy becomes fixed
    randomised(network)
    graph = import_exported(exported(network, shape, tmp_path / "net.pt2", decomposed=decomposed))
    compare(network, graph, shape)


@BOTH
def test_random_convolutions_compute_what_pytorchs_do(tmp_path: Path, decomposed: bool) -> None:
    chance = np.random.default_rng(int(decomposed))
    for seed in range(12):
        torch.manual_seed(seed)
        read, (height, width) = int(chance.integers(1, 5)), chance.integers(9, 20, 2)
        kernel, stride, dilation = (tuple(int(n) for n in chance.integers(1, most, 2)) for most in (5, 4, 3))
        padding = tuple(int(chance.integers(0, k)) for k in kernel)
        groups = int(chance.choice([1, read]))
        made, shape = groups * int(chance.integers(1, 4)), (1, read, int(height), int(width))
        network = randomised(
            nn.Sequential(
                nn.Conv2d(read, made, kernel, stride, padding, dilation, groups, bias=bool(chance.integers(2))),
                nn.BatchNorm2d(made),
                nn.ReLU6(),
                nn.Flatten(),
                nn.LazyLinear(4),
            ),
            seed,
        )
        network(torch.zeros(shape))
        compare(network, import_exported(exported(network, shape, tmp_path / "net.pt2", decomposed=decomposed)), shape)


@BOTH
def test_what_is_changed_in_place_is_changed_for_whoever_reads_it(tmp_path: Path, decomposed: bool) -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.first(x)
        made = net.second(net.relu(x))  # relu changes x
        made += x
        return made + made.clone().relu_()

    network = Net(forward, first=conv(made=4, padding=1), relu=nn.ReLU(inplace=True), second=conv(4, 4, padding=1))
    compare(
        network.eval(),
        import_exported(exported(network, (1, 3, 6, 5), tmp_path / "net.pt2", decomposed=decomposed)),
        (1, 3, 6, 5),
    )


def test_a_view_of_what_was_changed_in_place_is_refused(tmp_path: Path) -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.c(x)
        flat = x.flatten(1)
        x.relu_()
        return net.l(flat)

    network = Net(forward, c=conv(), l=nn.Linear(8 * 4 * 4, 3)).eval()
    with pytest.raises(UnsupportedError, match=r"it reads flatten, which relu_ has changed in its place"):
        import_exported(exported(network, (1, 3, 6, 6), tmp_path / "net.pt2"))


@BOTH
@pytest.mark.parametrize("scaled", [lambda x: x, lambda x: (x / 127.5 - torch.tensor([1.0, 0.9, 1.1])).clone()])
def test_an_input_that_has_channels_last_stays_as_it_is(
    scaled: Callable[[Any], Any], tmp_path: Path, decomposed: bool
) -> None:
    network = Net(lambda s, x: s.c(scaled(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1), c=conv()).eval()
    graph = import_exported(exported(network, (1, 9, 7, 3), tmp_path / "net.pt2", decomposed=decomposed))
    assert graph.input_shape == (9, 7, 3)
    compare(network, graph, (1, 9, 7, 3), last=True)


@BOTH
def test_an_open_batch_is_one(tmp_path: Path, decomposed: bool) -> None:
    network = Net(lambda s, x: s.l(s.c(x).view(x.shape[0], -1)), c=conv(), l=nn.Linear(8 * 4 * 3, 4)).eval()
    options: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    path = exported(network, (2, 3, 6, 5), tmp_path / "net.pt2", decomposed=decomposed, **options)
    compare(network, import_exported(path), (1, 3, 6, 5))
    path = exported(network, (2, 3, 6, 5), tmp_path / "net.pt2")
    with pytest.raises(UnsupportedError, match=r'input "x" has shape \(2, 3, 6, 5\); expected a batch of 1'):
        import_exported(path)
    options = {"dynamic_shapes": ({2: torch.export.Dim("height", min=4, max=60)},)}
    path = exported(nn.Sequential(conv()).eval(), (1, 3, 6, 5), tmp_path / "net.pt2", **options)
    with pytest.raises(UnsupportedError, match="has a size that is open"):
        import_exported(path)


def test_layers_have_the_names_of_modules(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU()), nn.Flatten(), nn.Linear(128, 2))
    graph = import_exported(exported(network.eval(), (1, 3, 6, 6), tmp_path / "net.pt2"))
    assert [layer.name for layer in graph.layers] == ["0.0", "0.1", "relu", "flatten", "2"]
    assert graph.name == "net"


def test_all_that_is_not_known_is_in_one_line(tmp_path: Path) -> None:
    network = Net(
        lambda s, x: torch.tanh(s.b(functional.gelu(s.a(x)))).mean((1, 2, 3)),
        a=conv(made=8),
        b=conv(8, 8, groups=4),
    ).eval()
    with pytest.raises(UnsupportedError) as refused:
        import_exported(exported(network, (1, 3, 6, 6), tmp_path / "net.pt2"))
    text = str(refused.value)
    assert "\n" not in text
    assert "3 nodes that tinymbn does not know" in text
    for part in ("gelu (aten.gelu.default)", "conv2d_1 (aten.conv2d.default): 4 groups", "tanh (aten.tanh."):
        assert part in text


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda s, x: s.c(x) * s.c(x), "of two tensors; expected a constant"),
        (lambda s, x: 1 / s.c(x), "reciprocal"),
        (lambda s, x: s.c(x) / 0, "by a tensor, or by 0"),
        (lambda s, x: torch.div(s.c(x), 2, rounding_mode="floor"), "a division that rounds"),
        (lambda s, x: torch.add(s.c(x), s.c(x), alpha=2), "alpha 2; expected 1"),
        (lambda s, x: s.c(x) + s.c.bias.view(1, -1, 1, 1).relu(), "it reads view, a constant"),
        (lambda s, x: functional.hardtanh(s.c(x)), "from -1 to 1; expected 0 to 6, or 0 and above"),
        (lambda s, x: functional.conv2d(x, s.c.weight * 2), "its weights are computed"),
        (lambda s, x: functional.conv_transpose2d(s.c(x), s.c.weight), "transpose"),
        (lambda s, x: s.c(x).transpose(2, 3).flatten(1), "output .* is a map whose axes were moved or flattened"),
        (lambda s, x: s.c(x).view(1, 4, 2, 16), "output .* is a map whose axes were moved or flattened"),
        (lambda s, x: s.c(functional.pad(x, (1, 1, 1, 1)).sigmoid()), "it reads padding, which only a convolution may"),
        (lambda s, x: functional.pad(s.c(x), (1, 1, 1, 1)).relu(), "it reads padding, which only a convolution may"),
        (lambda s, x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), "pad"),
        (lambda s, x: s.c(functional.pad(x, (1, 1), value=1.0)), "padding with other values than 0"),
        (lambda s, x: functional.adaptive_avg_pool2d(s.c(x), 3), "in windows of different sizes"),
        (lambda s, x: functional.avg_pool2d(x, 2, divisor_override=3), "a divisor of its own"),
        (lambda s, x: functional.max_pool2d(s.c(x), 2, dilation=2), "dilation; expected none"),
        (lambda s, x: s.c(functional.pad(x, (3, 3, 0, 0))), r"a window of \(3, 3\) fits into its Padding"),
        (lambda s, x: s.c(x).softmax(2), "over axis 2"),
        (lambda s, x: s.c(x).mean(), "over all axes|aten.mean.default"),
        (lambda s, x: s.c(x).double().float(), "to another type than float32"),
        (lambda s, x: (s.c(x.half().float()), x.half()), "another type"),
        (lambda s, x: functional.batch_norm(x, None, None, training=True), "training mode"),
        (lambda s, x: s.c(x).split(4, dim=1)[0], "aten.split"),
    ],
)
def test_what_is_not_computed_is_said(forward: Callable[..., Any], message: str, tmp_path: Path) -> None:
    path = exported(Net(forward, c=conv()).eval(), (1, 3, 6, 6), tmp_path / "net.pt2")
    with pytest.raises(UnsupportedError, match=message):
        import_exported(path)


@pytest.mark.parametrize(
    "copied",
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.to(torch.float32, copy=True),
        lambda x: x.permute(0, 2, 3, 1).reshape(1, 2, 8, 8).reshape(1, 4, 4, 8).permute(0, 3, 1, 2),
    ],
)
def test_what_may_be_a_copy_is_not_taken_for_what_was_changed(copied: Callable[[Any], Any], tmp_path: Path) -> None:
    """Whether PyTorch copies hangs on how tensors lie in memory, which the file does not say."""

    def forward(s: Any, x: Any) -> Any:
        x = s.c(x)
        kept = copied(x)
        return functional.relu_(x) + kept

    path = exported(Net(forward, c=conv()).eval(), (1, 3, 6, 6), tmp_path / "net.pt2")
    with pytest.raises(UnsupportedError, match="which relu_ has changed in its place"):
        import_exported(path)
    # Nothing is in doubt where the other is not read again.
    network = Net(lambda s, x: functional.relu_(copied(s.c(x))), c=conv()).eval()
    graph = import_exported(exported(network, (1, 3, 6, 6), tmp_path / "net.pt2"))
    x = torch.rand(1, 3, 6, 6)
    found = FloatInterpreter(graph).run(x[0].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(found, network(x)[0].detach().permute(1, 2, 0).numpy(), atol=1e-5)


def test_a_network_in_training_mode_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.Dropout())
    for decomposed in (False, True):
        path = exported(network.train(), (1, 3, 6, 6), tmp_path / "net.pt2", decomposed=decomposed)
        with pytest.raises(UnsupportedError, match=r"exported in training mode; expected .*network\.eval\(\)"):
            import_exported(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_names_its_tensor(value: float, tmp_path: Path) -> None:
    network = nn.Sequential(conv(), nn.BatchNorm2d(8)).eval()
    network[1].running_var[3] = value
    with pytest.raises(ModelError, match=r'net\.pt2: tensor "1\.running_var" has values that are not finite numbers'):
        import_exported(exported(network, (1, 3, 6, 6), tmp_path / "net.pt2"))


# --------------------------------------------------------------------------------------------- MobileNetV2

STEPS = 40
HEIGHT, WIDTH, CLASSES = 48, 40, 9
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# A short MobileNetV2: expansion, channels, repeats, stride.
STAGES = ((1, 8, 1, 1), (6, 8, 2, 2), (6, 16, 2, 2), (6, 24, 2, 2), (6, 32, 1, 1))


def unit(read: int, made: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[Any]:
    convolution = nn.Conv2d(read, made, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(made), nn.ReLU6(inplace=True)]


class Block(nn.Module):  # type: ignore[misc, name-defined]
    """An inverted residual."""

    def __init__(self, read: int, made: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = read * expansion
        expand = unit(read, wide) if expansion > 1 else []
        self.layers = nn.Sequential(*expand, *unit(wide, wide, 3, stride, wide), *unit(wide, made)[:-1])
        self.adds = stride == 1 and read == made

    def forward(self, x: Any) -> Any:
        return x + self.layers(x) if self.adds else self.layers(x)


def mobilenet_v2() -> Any:
    layers, read = unit(3, 8, 3, 2), 8
    for expansion, made, repeats, stride in STAGES:
        for repeat in range(repeats):
            layers.append(Block(read, made, stride if repeat == 0 else 1, expansion))
            read = made
    layers += unit(read, 128)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, CLASSES)]
    return nn.Sequential(*layers, *head)


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Blobs and stripes of all colours."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    paths = [folder / f"{k:03}.png" for k in range(count)]
    for path in paths:
        rows, columns = chance.integers(2, 12, 2)
        coarse = Image.fromarray(chance.integers(0, 256, (rows, columns, 3)).astype(np.uint8))
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
    return paths


def batch(paths: list[Path]) -> Any:
    """Pictures as PyTorch has them, normalised."""
    pixels = np.stack([np.asarray(Image.open(path), np.float32) for path in paths])
    return torch.from_numpy(
        ((pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(0, 3, 1, 2).copy()
    )


def classes(pictures: Any) -> Any:
    """The brightest and the darkest colour of each picture."""
    means = pictures.mean((2, 3))
    return means.argmax(1) * 3 + means.argmin(1)


def trained(paths: list[Path]) -> Any:
    """One that has learnt a little, so that its numbers are like those of a network in use."""
    torch.manual_seed(0)
    network, pictures = mobilenet_v2(), batch(paths)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(STEPS):
        some = torch.randperm(len(pictures))[:24]
        loss = functional.cross_entropy(network(pictures[some]), classes(pictures[some]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """The same network everywhere, and soon where other tests run beside it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_a_mobilenet_from_pytorch_to_verified_bytes(run: Run, tmp_path: Path) -> None:
    """Exported, quantised, run, generated, verified: logits near to PyTorch's, bytes equal to the interpreter's."""
    network = trained(write_pictures(Path("seen"), 120))
    exported(network, (1, 3, HEIGHT, WIDTH), Path("net.pt2"))
    options = ("--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD)))
    done = run("quantize", "net.pt2", "--calibrate", "seen", *options, "-o", "net.npz")
    assert done.code == 0, done.err
    graph = load_model("net.npz")
    assert graph.input_tensor.shape == (HEIGHT, WIDTH, 3)
    paths = write_pictures(Path("held_out"), 100)
    with torch.no_grad():
        expected = network(batch(paths)).numpy()
    (name,) = graph.outputs
    scores, inputs = graph.tensors[name], np.stack([to_input(load_picture(path), graph) for path in paths])
    found = (Interpreter(graph).run(inputs).astype(np.float64) - scores.zero_point) * scores.scale
    sqnr = 10 * np.log10((expected**2).sum() / ((found - expected) ** 2).sum())
    agreed = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    assert sqnr > 24  # 27.7 dB where this was written
    assert agreed >= 0.92  # 97 of 100
    shown = run("run", "net.npz", paths[0], "--json")
    assert shown.code == 0, shown.err
    for board_name in ("host", "qemu-m7"):
        require_tools(board_name)
        folder = tmp_path / board_name
        write_firmware(graph, load_board(board_name), Options(), folder)
        expect_equal(board_name, folder, graph, seed=0)
