"""Threads that wait for work; an executor's futures would take longer than many inferences."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

Task = Callable[[], None]


class Team:
    """So many threads, until nobody holds the team any more."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        for _ in range(count):
            Thread(target=_work, args=(self._tasks,), name="tinymbn", daemon=True).start()
        weakref.finalize(self, _dismiss, self._tasks, count)

    def begin(self, task: Task) -> None:
        """Let the next free thread do it; how it ends is the task's own business."""
        self._tasks.put(task)

    def all_do(self, task: Task, helpers: int) -> None:
        """Do it in this thread and in so many others at the same time.

        Raises:
            BaseException: what the first of the others that failed raised.
        """
        ends: SimpleQueue[BaseException | None] = SimpleQueue()

        def watched() -> None:
            try:
                task()
            except BaseException as error:
                ends.put(error)
            else:
                ends.put(None)

        for _ in range(helpers):
            self.begin(watched)
        try:
            task()
        finally:
            errors = [ends.get() for _ in range(helpers)]
        for error in errors:
            if error is not None:
                raise error


def _work(tasks: SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # else it would hold its machine, and that this team, until the next one comes


def _dismiss(tasks: SimpleQueue[Task | None], count: int) -> None:
    for _ in range(count):
        tasks.put(None)
