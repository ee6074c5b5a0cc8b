"""Trains a MobileNetV1 on CIFAR-10 on this computer's CPU: ``python examples/cifar10/training.py TRAINING.npz``."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from pictures import CLASSES, load
from torch.nn import functional
from torch_mobilenet import EPSILON, Network

from tinymbn.quantize import build, mobilenet_v1, save_float_model

ALPHA = 0.5
RESOLUTION = 48
SEED = 1
BATCH = 128
LEARNING_RATE = 6e-3
_SHIFT = 5  # pixels that a picture is moved by at most


def train(network: Network, pictures: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Train in place, each picture mirrored and moved anew in each epoch."""
    batches = len(labels) // BATCH  # a last, smaller one would disturb the batch-norm's statistics
    optimiser = torch.optim.AdamW(network.module.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * batches)
    network.module.train()
    begin = time.monotonic()
    for epoch in range(1, epochs + 1):
        total, right = 0.0, 0
        for chosen in torch.randperm(len(labels))[: batches * BATCH].reshape(batches, BATCH):
            optimiser.zero_grad()
            logits = network.module(augment(pictures[chosen]))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.1)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.item()
            right += int((logits.argmax(dim=1) == labels[chosen]).sum())
        seconds = time.monotonic() - begin
        share = right / (batches * BATCH)
        print(f"epoch {epoch} of {epochs}: loss {total / batches:.3f}, {share:.1%} right, {seconds:.0f} s", flush=True)
    network.module.eval()


def augment(pictures: torch.Tensor) -> torch.Tensor:
    """Real values -1..1, (N, C, H, W), of uint8 (N, H, W, C): half of them mirrored, all moved together a little."""
    x = pictures.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
    mirrored = torch.rand(len(x)) < 0.5
    x[mirrored] = x[mirrored].flip(3)
    padded = functional.pad(x, (_SHIFT,) * 4, mode="reflect")
    size = x.shape[2]
    # A group of pictures at a time, each with a shift of its own.
    parts = []
    for part in padded.split(8):
        top, left = (int(torch.randint(0, 2 * _SHIFT + 1, ())) for _ in range(2))
        parts.append(part[:, :, top : top + size, left : left + size])
    return torch.cat(parts).contiguous(memory_format=torch.channels_last)


def main() -> None:
    """Train and write the parameters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("training", type=Path, help="a .npz of jpeg, offsets, labels; or class folders")
    parser.add_argument("-o", "--output", type=Path, default=Path("cifar10_float.npz"))
    parser.add_argument("--epochs", type=int, default=22)
    given = parser.parse_args()
    torch.manual_seed(SEED)
    pictures, labels = load(given.training, RESOLUTION)
    network = Network.of(mobilenet_v1(ALPHA), RESOLUTION, 3, len(CLASSES))
    network.module.to(memory_format=torch.channels_last)
    train(network, torch.from_numpy(pictures), torch.from_numpy(labels), given.epochs)
    parameters = network.parameters_by_name()
    graph = build(network.architecture, RESOLUTION, len(CLASSES), parameters=parameters, epsilon=EPSILON)
    save_float_model(replace(graph, name="cifar10", labels=CLASSES), given.output)


if __name__ == "__main__":
    main()
