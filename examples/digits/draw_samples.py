"""Draws the ten sample pictures with a round pen in a not quite steady hand: ``python draw_samples.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 64
FINE = 8  # drawn this much larger, then made smaller: smooth edges
SAMPLES = Path(__file__).resolve().parent / "samples"

Point = tuple[float, float]
Stroke = list[Point]  # (x, y), in 64ths of the picture's side, y downwards


def arc(centre: Point, radii: Point, start: float, end: float) -> Stroke:
    """Part of an ellipse; angles in degrees, 0 to the right and 90 down, from start to end either way."""
    angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
    return [(centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in angles]


DIGITS: dict[int, list[Stroke]] = {
    0: [[(35, 11), *arc((32, 32), (13, 20), -95, -440)]],
    1: [[(24, 23), (33, 12), (32, 54)]],
    2: [[*arc((31, 23), (12, 11), -165, 38), (19, 51), (28, 49), (47, 52)]],
    3: [[*arc((30, 22), (12, 10), -150, 85), *arc((30, 42), (14, 11), -85, 150)]],
    4: [[(35, 10), (27, 25), (17, 38), (32, 39), (48, 38)], [(38, 26), (37, 54)]],
    5: [[(25, 13), (22, 31), *arc((31, 41), (14, 13), -135, 145)], [(25, 13), (44, 12)]],
    6: [[(40, 10), (30, 20), *arc((32, 41), (12, 12), -170, 180), (21, 38)]],
    7: [[(18, 14), (32, 13), (46, 13), (36, 33), (29, 55)], [(25, 34), (43, 33)]],
    8: [[*arc((32, 21), (10, 9), -40, -270), *arc((32, 42), (13, 12), -90, 270), *arc((32, 21), (10, 9), 90, -50)]],
    9: [[*arc((31, 23), (12, 12), -20, -370), (42, 34), (38, 54)]],
}


def draw(strokes: list[Stroke], hand: int = 0, pen: float = 5.6) -> Image.Image:
    """White strokes on black, (64, 64), grey; ``hand`` sets slant, tremor and pressure."""
    picture = Image.new("L", (SIDE * FINE, SIDE * FINE), 0)
    brush = ImageDraw.Draw(picture)
    slant = 0.03 + 0.05 * math.sin(2.4 * hand)
    for stroke in strokes:
        for length, (x, y) in along(stroke):
            x += slant * (SIDE / 2 - y) + 0.6 * math.sin(y / 7 + hand)
            y += 0.6 * math.sin(x / 8 + 2 * hand)
            radius = pen / 2 * (1 + 0.12 * math.sin(length / 11 + hand))
            box = (x - radius, y - radius, x + radius, y + radius)
            brush.ellipse([edge * FINE for edge in box], fill=255)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def along(stroke: Stroke) -> Iterator[tuple[float, Point]]:
    """Points a quarter of a pixel apart, each with the length drawn so far."""
    length = 0.0
    for (x0, y0), (x1, y1) in pairwise(stroke):
        distance = math.hypot(x1 - x0, y1 - y0)
        count = max(1, round(4 * distance))
        for i in range(count + 1):
            part = i / count
            yield length + part * distance, (x0 + part * (x1 - x0), y0 + part * (y1 - y0))
        length += distance


def main() -> None:
    """Write samples/0.png to samples/9.png."""
    SAMPLES.mkdir(exist_ok=True)
    for digit, strokes in DIGITS.items():
        draw(strokes, hand=digit).save(SAMPLES / f"{digit}.png", optimize=True)


if __name__ == "__main__":
    main()
