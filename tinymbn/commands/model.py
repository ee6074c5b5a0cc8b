"""Commands about models on this computer: run, import, info."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tinymbn.commands import arguments
from tinymbn.errors import FloatModelError, ImageError
from tinymbn.terminal import complain


@click.command()
@click.argument("files", nargs=-1, type=arguments.FILE, metavar="[MODEL] IMAGE...")
@click.option("--top", type=click.IntRange(min=1), metavar="K", help="Classes to show: 5, of several pictures 1.")
@arguments.labels
@arguments.resize
@click.option("--layers", is_flag=True, help="Show each layer's output: shape, range, CRC-32.")
@click.option("--profile", is_flag=True, help="Show how long each layer takes on this computer.")
@click.option("--output", type=arguments.FILE, metavar="FILE.npz", help="Write the raw outputs of all pictures.")
@arguments.engine
@arguments.as_json
@arguments.quiet
def run(
    files: tuple[Path, ...],
    top: int | None,
    labels_file: Path | None,
    resize: Any,
    layers: bool,
    profile: bool,
    output: Path | None,
    engine: Any,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run a MODEL on pictures.

    IMAGE is a PNG, JPEG or BMP file, a .npy array, or a folder of them. MODEL is a .npz, .tflite or quantised
    .onnx file. Left out, it is model.npz in this folder, else the model that ships with tinymbn, which reads
    handwritten digits.

    A picture is turned upright as its EXIF data say, what is transparent becomes white, and it is squashed to
    the input's size unless the model or --resize says crop.
    """
    model, images = arguments.model_and_pictures(files)
    if output is not None:
        arguments.require_output(output, [model or arguments.MODEL_HERE, labels_file, *images])
    from tinymbn import inference, report, terminal
    from tinymbn.labels import with_labels

    graph = arguments.load(model, quiet=quiet)
    if resize is not None:
        graph = replace(graph, preprocessing=replace(graph.preprocessing, resize=resize))
    if labels_file is not None:
        graph = with_labels(graph, labels_file)
    pictures = inference.find_pictures(images)
    interpreter = arguments.interpreter(graph, engine, quiet=quiet)

    out = report.JsonReport(graph, top) if as_json else report.TextReport(graph, pictures, top)
    done: list[inference.PictureResult] = []
    failed = False
    results = inference.run_pictures(interpreter, pictures, layers=layers)
    with closing(terminal.with_progress(results, len(pictures), quiet=quiet)) as shown:
        for result in shown:
            if isinstance(result, inference.PictureError):
                complain(str(result.error))
                failed = True
            elif output is not None or not done:  # --profile needs one; thousands need not be kept for nothing
                done.append(result)
            out.add(result)
    if profile and done:
        out.add_times(inference.layer_times(interpreter, done[0].input))
    out.finish()
    if output is not None and done:
        inference.save_outputs(output, graph, done)
    return ImageError.exit_code if failed else 0


@click.command("import")
@click.argument("model", type=arguments.FILE)
@click.option("-o", "--output", type=arguments.FILE, metavar="FILE.npz", help="Default: a new model.npz.")
@arguments.labels
@arguments.preprocessing_options
def import_model(
    model: Path,
    output: Path | None,
    labels_file: Path | None,
    prepared: arguments.Prepared,
) -> None:
    """Write a .tflite MODEL, or a quantised .onnx one, as .npz.

    An .onnx is quantised where it has QuantizeLinear and DequantizeLinear around its nodes (QDQ). Labels, and what is
    to be done to a picture, go with it. A .npz MODEL is taken as well, to change these. Mean and std are in the order
    in which the model takes the channels.
    """
    output = arguments.new_model(output)
    arguments.require_output(output, [labels_file, model if model.suffix.lower() != ".npz" else None])
    from tinymbn.labels import with_labels
    from tinymbn.model_file import save_model
    from tinymbn.summary import preprocessing_text

    graph = arguments.load(model)
    graph = replace(graph, preprocessing=prepared(graph.preprocessing))
    if labels_file is not None:
        graph = with_labels(graph, labels_file)
    picture = preprocessing_text(graph)  # complains of a mean that does not fit the input
    save_model(graph, output)
    size = f"{len(graph.layers)} layers, {graph.macs:,} MACs, {graph.parameters:,} weights and biases"
    click.echo(f"{output}: {size}, {output.stat().st_size:,} bytes")
    click.echo(f"picture: {picture}")


@click.command()
@click.argument("model", type=arguments.FILE, required=False)
@click.option("--resolution", type=int, metavar="R", help="Of weights alone, or a float .onnx of any size.")
@arguments.as_json
def info(model: Path | None, resolution: int | None, as_json: bool) -> None:
    """Show a MODEL's layers, cost and input.

    MODEL is any file that tinymbn run or tinymbn quantize takes. Left out, it is model.npz in this folder, else the
    model that ships.
    """
    from tinymbn import summary, tables
    from tinymbn.load import load_float

    try:
        graph = arguments.load(model)
    except FloatModelError:
        assert model is not None
        network = load_float(model, resolution)
        if as_json:
            click.echo(json.dumps(summary.float_model_values(network), indent=2))
        else:
            tables.print_float_model(network)
        return
    if as_json:
        click.echo(json.dumps(summary.model_values(graph), indent=2))
    else:
        tables.print_model(graph)
