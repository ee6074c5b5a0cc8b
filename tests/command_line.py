"""Commands as a user gives them, run in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    code: object
    out: str
    err: str


Run = Callable[..., Outcome]
