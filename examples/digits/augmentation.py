"""Varies pictures of digits as hands, pens and cameras do, a batch at a time."""

from __future__ import annotations

import math

import torch
from torch.nn import functional


def augment(pictures: torch.Tensor) -> torch.Tensor:
    """New pictures, (N, 1, H, W) of 0..1, each bent, thickened and dimmed in its own way (torch's global seed)."""
    n = len(pictures)
    grid = functional.affine_grid(_affine(n), list(pictures.shape), align_corners=False)
    # A slow wave of up to a tenth of the picture, from a 4x4 grid of random shifts: a shaky hand.
    wave = functional.interpolate(_uniform((n, 2, 4, 4), -0.1, 0.1), size=pictures.shape[2:], mode="bicubic")
    bent = functional.grid_sample(pictures, grid + wave.permute(0, 2, 3, 1), align_corners=False)
    # The enlarged strokes are soft; a steeper slope makes sharp edges, its middle thin or fat strokes.
    middle, slope = _uniform((n, 1, 1, 1), 0.4, 0.7), _uniform((n, 1, 1, 1), 1.0, 5.0)
    strokes = ((bent - middle) * slope + 0.5).clamp(0, 1)
    dimmed = strokes * _uniform((n, 1, 1, 1), 0.6, 1.0)
    noise = torch.randn_like(dimmed) * _uniform((n, 1, 1, 1), 0.0, 0.05)
    return (dimmed + noise).clamp(0, 1)


def _affine(n: int) -> torch.Tensor:
    """Rotation by up to 15 degrees, shear, size 0.65 to 1.15 by axis, shift by up to an eighth: (N, 2, 3)."""
    angle, shear = _uniform((n,), -math.pi / 12, math.pi / 12), _uniform((n,), -0.25, 0.25)
    width, height = 1 / _uniform((n,), 0.65, 1.15), 1 / _uniform((n,), 0.65, 1.15)
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack([cos * width, (shear * cos - sin) * width, _uniform((n,), -0.25, 0.25)], dim=1)
    down = torch.stack([sin * height, (shear * sin + cos) * height, _uniform((n,), -0.25, 0.25)], dim=1)
    return torch.stack([across, down], dim=1)


def _uniform(shape: tuple[int, ...], low: float, high: float) -> torch.Tensor:
    return torch.rand(shape) * (high - low) + low
