"""Compiles kernels with Numba and keeps the machine code between processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache
from numba.extending import register_jitable

from tinymbn import fixedpoint
from tinymbn.kernels.cache import cache_directory

Function = TypeVar("Function", bound=Callable[..., Any])

# Kernels call these by name; Numba compiles them into the caller.
for _function in (
    fixedpoint.wrap_int32,
    fixedpoint.high_multiply,
    fixedpoint.shift_right,
    fixedpoint.requantize,
    fixedpoint.to_output,
    fixedpoint.requantize_once,
    fixedpoint.step_count,
    fixedpoint.rounding_average,
    fixedpoint.exp_on_negative,
    fixedpoint._exp_on_interval,
    fixedpoint._saturating_double,
    fixedpoint.reciprocal,
):
    register_jitable(_function)


# Numba notices when a kernel's own file changes, not when another that is compiled into it does.
CACHE_FOLDER = cache_directory("kernels", (Path(fixedpoint.__file__), *sorted(Path(__file__).parent.glob("*.py"))))


def is_compiled() -> bool:
    """Whether an earlier process has left machine code; if not, the first inference takes some seconds."""
    return CACHE_FOLDER is not None and any(CACHE_FOLDER.glob("**/*.nbc"))


@contextmanager
def _numba_cache_in(directory: Path) -> Iterator[None]:
    """Numba reads this setting when a function is decorated; other users of Numba keep theirs."""
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory)
    try:
        yield
    finally:
        config.CACHE_DIR = before


class _Cache(FunctionCache):
    """Numba's cache, in which a damaged file is as good as none and a full disk no reason to stop."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def kernel(function: Function) -> Function:
    """The function compiled when first called, and kept on disk for the next process."""
    compiled: Any = numba.njit(function, nogil=True, error_model="numpy")
    if CACHE_FOLDER is not None:
        with _numba_cache_in(CACHE_FOLDER):
            compiled._cache = _Cache(function)  # what njit(cache=True) does, with Numba's own class
    result: Function = compiled
    return result
