"""Commands about float networks: new, quantize."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tinymbn.architectures import NAMES
from tinymbn.commands import arguments
from tinymbn.errors import InterruptError


@click.command()
@click.option("--arch", type=click.Choice(NAMES), default=NAMES[0], help=f"Default: {NAMES[0]}.")
@click.option("--alpha", type=float, default=1.0, metavar="A", help="The width multiplier. Default: 1.")
@click.option("--resolution", type=int, default=224, metavar="R", help="Height and width of a picture. Default: 224.")
@click.option("--classes", type=int, default=1000, metavar="N", help="Default: 1000.")
@click.option("--channels", type=click.Choice(["1", "3"]), default="3", help="Of a picture. Default: 3.")
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Of the random weights. Default: 0.")
@click.option(
    "-o", "--output", type=arguments.FILE, required=True, metavar="FILE.npz", help="The float model to write."
)
def new(arch: str, alpha: float, resolution: int, classes: int, channels: str, seed: int, output: Path) -> None:
    """Build a float MobileNet with random weights.

    It is to be trained, or to be quantised as it is, to see what a network of its size takes of a board. In Python,
    tinymbn.quantize.build takes weights of your own.
    """
    arguments.require_output(output, [])
    from tinymbn.architectures import architecture
    from tinymbn.quantize.builder import build
    from tinymbn.quantize.float_file import save_float_model

    graph = build(architecture(arch, alpha), resolution, classes, channels=int(channels), seed=seed)
    save_float_model(graph, output)
    size = f"{len(graph.layers)} layers, {graph.macs:,} MACs, {graph.parameters:,} weights and biases"
    click.echo(f"{output}: {graph.name}, float: {size}")


@click.command()
@click.argument("model", type=arguments.FILE)
@click.option("--calibrate", type=arguments.FILE, required=True, metavar="PICTURES", help="A folder or .npz.")
@click.option("-o", "--output", type=arguments.FILE, metavar="FILE.npz", help="Default: a new model.npz.")
@click.option("--pictures", type=click.IntRange(min=1), default=200, metavar="N", help="At most. Default: 200.")
@click.option(
    "--method",
    type=click.Choice(["mse", "minmax", "percentile", "kl"]),
    default="mse",
    help="How ranges are chosen. Default: mse.",
)
@click.option("--resolution", type=int, metavar="R", help="Of weights alone, or an .onnx of any size.")
@click.option("--no-equalize", is_flag=True, help="Leave channels as they are, however small their values.")
@click.option("--no-bias-correction", is_flag=True, help="Round biases as they are.")
@arguments.labels
@arguments.preprocessing_options
@click.option("--top", type=click.IntRange(min=1), default=10, metavar="K", help="Layers to show. Default: 10.")
@click.option("--report", type=arguments.FILE, metavar="FILE.html", help="Write a page about every layer.")
@arguments.as_json
@arguments.quiet
def quantize(
    model: Path,
    calibrate: Path,
    output: Path | None,
    pictures: int,
    method: Any,
    resolution: int | None,
    no_equalize: bool,
    no_bias_correction: bool,
    labels_file: Path | None,
    prepared: arguments.Prepared,
    top: int,
    report: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make an int8 model of a float MODEL.

    MODEL is a .npz of tinymbn new; a .keras or .h5 that Keras saved with model.save; a .pt2 of PyTorch's
    torch.export.save; an .onnx; a float .tflite; or weights alone: a .h5 of keras.applications' MobileNet or
    MobileNetV2, a .pt with the state_dict of torchvision's mobilenet_v2 or of examples/cifar10. Pictures show which
    values its tensors take: a few dozen of the kind that it will see; labels are not needed. What the value of a pixel
    is has to be said where the model does not: --input-range -1,1 for most MobileNets.
    """
    output = arguments.new_model(output)
    arguments.require_output(output, [model, labels_file, calibrate])
    if report is not None:
        arguments.require_other_file(report, [model, labels_file, calibrate])
        if report.resolve() == output.resolve():
            raise arguments.usage(f"{report}: the model goes there; --report wants a file of its own")
        if report.suffix.lower() not in (".html", ".htm"):  # so that it is none of the pictures
            raise arguments.usage(f"{report}: expected a name that ends in .html")
    from tinymbn import quantization, quantization_report, terminal
    from tinymbn.labels import load_class_labels
    from tinymbn.load import load_float
    from tinymbn.model_file import save_model
    from tinymbn.quantize import calibrate as calibrated_on
    from tinymbn.quantize import fold_into_preprocessing

    graph = load_float(model, resolution)
    graph = fold_into_preprocessing(replace(graph, preprocessing=prepared(graph.preprocessing)))
    how, labels = graph.preprocessing, graph.labels
    if labels_file is not None:
        labels = load_class_labels(labels_file, graph.name, [graph.shapes[name] for name in graph.outputs])
    found = quantization.CalibrationPictures(graph, how, calibrate, pictures)
    try:
        with closing(terminal.with_progress(iter(found), found.count, quiet=quiet)) as shown:
            calibration = calibrated_on(graph, shown, preprocessing=how, method=method, equalized=not no_equalize)
    except KeyboardInterrupt:
        done = f"{found.used:,} of {found.count:,} pictures"
        raise InterruptError(f"interrupted after {done}; nothing was written") from None
    made = calibration.convert(labels=labels, correct_biases=not no_bias_correction)
    qualities = quantization.compare_layers(calibration, made, found.first)
    save_model(made, output)
    if report is not None:
        from tinymbn.files import write_file
        from tinymbn.quantization_page import page

        write_file(report, page(made, calibration, qualities, found.used, method).encode())
    if as_json:
        values = quantization_report.values(made, calibration, qualities, found.used, found.skipped, method)
        click.echo(json.dumps(values, indent=2))
        return
    quantization_report.print_qualities(qualities, top)
    click.echo("")
    size = f"{len(made.layers)} layers, {made.macs:,} MACs, {made.parameters:,} weights and biases"
    skipped = f", {found.skipped} skipped" if found.skipped else ""
    click.echo(f"{output}: {size}; calibrated on {found.used:,} picture{'s' if found.used != 1 else ''}{skipped}")
