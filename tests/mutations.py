"""Damages files at random, as disks, cables and attackers do."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

_INTERESTING = (0, 1, -1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 32767, 65535, 2**24, 2**30, 2**31 - 1, -(2**31))
_FLOATS = (0.0, -1.0, 1e-45, 1e-38, 1e-9, 1.0, 16.0, 1e9, 3e38, float("inf"), float("nan"))
_VALUES: tuple[Any, ...] = (
    *_INTERESTING,
    2**40,
    10**30,
    -0.5,
    1e300,
    float("nan"),
    None,
    True,
    "",
    "x",
    [],
    {},
    [0, 0],
)


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """The file with one to eight small damages."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        _damage_once(damaged, rng)
    return bytes(damaged)


def _damage_once(data: bytearray, rng: random.Random) -> None:
    if not data:
        return
    # Offsets and counts lie at the start and end of a file more often than in its middle.
    at = rng.choice(
        (rng.randrange(len(data)), rng.randrange(min(len(data), 4096)), -rng.randrange(1, min(len(data), 4096) + 1))
    )
    at %= len(data)
    match rng.randrange(8):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at] = rng.randrange(256)
        case 2:
            word = struct.pack("<i", rng.choice(_INTERESTING))
            at -= at % 4
            data[at : at + 4] = word[: len(data) - at]
        case 3:
            at -= at % 4
            (old,) = struct.unpack("<I", bytes(data[at : at + 4]).ljust(4, b"\0"))
            data[at : at + 4] = struct.pack("<I", (old + rng.choice((-8, -4, -2, -1, 1, 2, 4, 8))) % 2**32)
        case 4:
            del data[at:]
        case 5:
            # A scale, if it hits one.
            at -= at % 4
            data[at : at + 4] = struct.pack("<f", rng.choice(_FLOATS))[: len(data) - at]
        case 6:
            del data[at : at + rng.randrange(1, 64)]
        case _:
            start = rng.randrange(len(data))
            data[at:at] = data[start : start + rng.randrange(1, 64)]


def damage_npz(data: bytes, rng: random.Random) -> bytes:
    """A ``.npz`` that is a sound archive with a damaged member, or a damaged archive."""
    return _damage_archive(data, rng, "header.npy", _damage_header)


def damage_pt2(data: bytes, rng: random.Random) -> bytes:
    """The same of a ``.pt2``."""
    return _damage_archive(data, rng, ".json", damage_json)


def _damage_archive(
    data: bytes, rng: random.Random, text: str, damage: Callable[[bytes, random.Random], bytes]
) -> bytes:
    """An archive with a damaged member, most often one whose name ends with ``text``, or a damaged archive."""
    if rng.random() < 0.25:
        return damage_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(list(members))
    kind = rng.randrange(8)
    if kind < 5:
        name = rng.choice([name for name in members if name.endswith(text)])
        members[name] = damage(members[name], rng)
    elif kind == 5:
        del members[name]
    elif kind == 6:
        other = rng.choice(list(members))
        members[name], members[other] = members[other], members[name]
    else:
        members[name] = damage_bytes(members[name], rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _damage_header(member: bytes, rng: random.Random) -> bytes:
    """The ``.npy`` of the JSON header, damaged."""
    text = damage_json(member[member.index(b'{"') :], rng)
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(text)},), }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + text


def damage_json(text: bytes, rng: random.Random) -> bytes:
    """JSON with one to three values replaced, taken out, or doubled."""
    content = json.loads(text)
    for _ in range(rng.randrange(1, 4)):
        if not content:
            break
        node, key = _random_place(content, rng)
        match rng.randrange(5):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.insert(rng.randrange(len(node) + 1), node[key])
            case 2 if isinstance(node[key], int | float):
                node[key] = node[key] + rng.choice((-1, 1, 0.5, 2**31))
            case _:
                node[key] = rng.choice(_VALUES)
    return json.dumps(content).encode()


def _random_place(node: Any, rng: random.Random) -> tuple[Any, Any]:
    """A container within the JSON and a key of it."""
    while True:
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        child = node[key]
        if not isinstance(child, dict | list) or not child or rng.random() < 0.1:
            return node, key
        node = child
