"""Trains the network that ships with tinymbn, quantises it and measures both: ``python examples/digits/train.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from augmentation import augment
from dataset import Digits, load
from network import Network
from numpy.typing import NDArray
from torch.nn import functional

import tinymbn
from tinymbn.quantize import FloatGraph, FloatInterpreter, quantize

MODEL = Path(tinymbn.__file__).resolve().parent / "models" / "digits.npz"
SEED = 1
EPOCHS = 120
BATCH = 64
LEARNING_RATE = 4e-3
CALIBRATION_PICTURES = 400


def main() -> None:
    """Train, quantise, write the model, and print the accuracy on the fifth that was held out."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in one order: the same weights each time
    torch.use_deterministic_algorithms(True)
    training, held_out = load()
    network = Network.of()
    train(network, training)

    float_graph = network.float_graph()
    check_same(network, float_graph, held_out)
    chosen = training.pictures[np.random.RandomState(SEED).permutation(len(training.labels))[:CALIBRATION_PICTURES]]
    varied = augment(as_tensor(chosen)).permute(0, 2, 3, 1).numpy()
    graph = quantize(
        float_graph,
        np.concatenate([real_values(chosen), varied]),
        input_range=(0, 1),
        labels=[str(digit) for digit in range(10)],
    )
    tinymbn.save_model(graph, MODEL)

    scores = np.asarray(FloatInterpreter(float_graph).run(real_values(held_out.pictures)))
    print(f"held-out pictures: {len(held_out.labels)}")
    print(f"float accuracy: {accuracy(scores, held_out):.2f} %")
    scores = tinymbn.Interpreter(tinymbn.load_model(MODEL)).run(int8_input(held_out.pictures))
    print(f"int8 accuracy:  {accuracy(scores, held_out):.2f} %")
    print(f"{MODEL.name}: {MODEL.stat().st_size} bytes, {graph.parameters} parameters, {graph.macs} MACs")


def train(network: Network, digits: Digits, epochs: int = EPOCHS) -> None:
    """Train in place, each picture varied anew in each epoch."""
    pictures, labels = as_tensor(digits.pictures), torch.from_numpy(digits.labels)
    batches = len(labels) // BATCH  # a last, smaller one would disturb the batch-norm's statistics
    optimiser = torch.optim.AdamW(network.module.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * batches)
    network.module.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for chosen in torch.randperm(len(labels))[: batches * BATCH].reshape(batches, BATCH):
            optimiser.zero_grad()
            logits = network.module(augment(pictures[chosen]))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.item()
        if epoch % 10 == 0:
            print(f"epoch {epoch} of {epochs}: loss {total / batches:.3f}", flush=True)
    network.module.eval()


def check_same(network: Network, graph: FloatGraph, digits: Digits) -> None:
    """Stop if the float graph does not compute what PyTorch trained."""
    with torch.no_grad():
        expected = functional.softmax(network.module(as_tensor(digits.pictures)), dim=1).numpy()
    np.testing.assert_allclose(FloatInterpreter(graph).run(real_values(digits.pictures)), expected, atol=1e-4)


def accuracy(scores: NDArray[np.generic], digits: Digits) -> float:
    """Per cent of the pictures whose highest score, (N, 10), is their digit's."""
    return 100 * float(np.mean(scores.argmax(axis=1) == digits.labels))


def real_values(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """0..1, (N, 32, 32, 1), of pixels 0..255."""
    return (pictures[..., np.newaxis] / 255).astype(np.float32)


def int8_input(pictures: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Pixel - 128, (N, 32, 32, 1)."""
    return (pictures[..., np.newaxis] ^ 0x80).view(np.int8)


def as_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """0..1, (N, 1, 32, 32)."""
    return torch.from_numpy(real_values(pictures)).permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
