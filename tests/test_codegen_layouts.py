"""Layouts of rows: what is written is read back, and each byte lies where kernels expect it."""

from __future__ import annotations

import numpy as np
import pytest

from tinymbn_codegen.layouts import Layout, decode, encode, groups, pairs_of, row_bytes


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (1, (1,)),
        (2, (2,)),
        (3, (3,)),
        (4, (4,)),
        (5, (4, 1)),
        (6, (3, 3)),
        (7, (4, 3)),
        (9, (3, 3, 3)),
        (13, (4, 3, 3, 3)),
    ],
)
def test_groups_of_pixels(width: int, expected: tuple[int, ...]) -> None:
    assert groups(width) == expected


def test_groups_make_up_the_width() -> None:
    for width in range(1, 300):
        assert sum(groups(width)) == width
        assert width < 6 or set(groups(width)) <= {3, 4}


@pytest.mark.parametrize("layout", ["nhwc", "planar", "pairs"])
@pytest.mark.parametrize("shape", [(3, 1, 1), (2, 5, 3), (4, 6, 8), (1, 13, 11), (2, 48, 2)])
def test_what_is_encoded_is_decoded(layout: Layout, shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    rows = encode(layout, values)
    assert rows.shape == (shape[0], row_bytes(layout, shape))
    assert np.array_equal(decode(layout, rows, shape), values)


def test_a_planar_word_gives_neighbours_to_uxtb16() -> None:
    values = (np.arange(6) - 128).astype(np.int8).reshape(1, 6, 1)
    assert encode("planar", values)[0].tolist() == [0, 2, 1, 3, 4, 0, 5, 0] + [0] * 8


def test_a_pair_holds_a_channel_and_the_one_half_way_on() -> None:
    values = (np.arange(3)[:, None] * 10 + np.arange(4)).reshape(1, 3, 4)
    halves = encode("pairs", (values - 128).astype(np.int8)).view("<u2")[0].tolist()
    assert halves == [0, 2, 10, 12, 20, 22, 1, 3, 11, 13, 21, 23]
    assert pairs_of(4) == 2
