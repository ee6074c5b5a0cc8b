"""Commands about float networks: new."""

from __future__ import annotations

from pathlib import Path

import click

from tinymbn.architectures import NAMES
from tinymbn.commands import arguments


@click.command()
@click.option("--arch", type=click.Choice(NAMES), default=NAMES[0], help=f"Default: {NAMES[0]}.")
@click.option("--alpha", type=float, default=1.0, metavar="A", help="The width multiplier. Default: 1.")
@click.option("--resolution", type=int, default=224, metavar="R", help="Height and width of a picture. Default: 224.")
@click.option("--classes", type=int, default=1000, metavar="N", help="Default: 1000.")
@click.option("--channels", type=click.Choice(["1", "3"]), default="3", help="Of a picture. Default: 3.")
@click.option("--seed", type=int, default=0, metavar="N", help="Of the random weights. Default: 0.")
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
