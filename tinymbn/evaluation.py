"""Holds a classifier against labelled pictures: on all cores, with the same result on any number of them."""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.class_match import ClassMatch
from tinymbn.dataset import LabelledPicture
from tinymbn.errors import TinymbnError
from tinymbn.graph import Graph
from tinymbn.image import load_input, load_picture, to_input
from tinymbn.interpreter import Interpreter
from tinymbn.labels import class_values

_WAITING = 4  # pictures a job: enough that none waits for the reader, or for the one whose turn it is


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture.

    Attributes:
        true: its class.
        predicted: the class with the highest score; of equal ones the lowest.
        rank: how many classes come before the true one; 0 is right.
    """

    true: int
    predicted: int
    rank: int


@dataclass
class Tally:
    """What was counted; its size does not depend on the number of pictures.

    Attributes:
        confusion: pictures by (true class, predicted class); pairs that do not occur are left out.
        ranks: pictures by the rank of the true class.
    """

    confusion: Counter[tuple[int, int]] = field(default_factory=Counter)
    ranks: Counter[int] = field(default_factory=Counter)

    def add(self, answer: Answer) -> None:
        """Count a picture."""
        self.confusion[answer.true, answer.predicted] += 1
        self.ranks[answer.rank] += 1

    @property
    def pictures(self) -> int:
        """How many were counted."""
        return self.ranks.total()

    def within(self, k: int) -> int:
        """Pictures whose class is among the k with the highest scores."""
        return sum(count for rank, count in self.ranks.items() if rank < k)

    def by_class(self) -> Counter[int]:
        """Pictures of each true class."""
        counts: Counter[int] = Counter()
        for (true, _), count in self.confusion.items():
            counts[true] += count
        return counts


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warm_up(interpreter: Interpreter) -> None:
    """Compile the kernels, in the calling thread: there Ctrl-C stops it, and no other thread waits for it."""
    tensor = interpreter.graph.input_tensor
    interpreter.run(np.zeros(tensor.shape, tensor.dtype))


def load_labelled(picture: LabelledPicture, graph: Graph) -> NDArray[Any]:
    """The model's input made of a picture, of the input tensor's type and shape.

    Raises:
        ImageError: the picture is damaged, no picture, or does not fit the model.
    """
    if picture.data is None:
        return load_input(picture.path, graph)
    return to_input(load_picture(picture.path, picture.data), graph)


def evaluate(
    interpreter: Interpreter, pictures: Iterable[LabelledPicture], match: ClassMatch, jobs: int
) -> Generator[Answer, None, None]:
    """The answer for each picture, in order.

    Each of the threads takes a picture, decodes it and runs the model on it; Pillow and the kernels release the
    interpreter lock. At most ``4 * jobs`` pictures are read ahead. When the generator is closed, the threads
    stop after the picture they are at.

    Args:
        interpreter: of a classifier, warmed up.
        pictures: read one after the other, in the calling thread.
        match: the classes of the pictures.
        jobs: threads.

    Raises:
        TinymbnError: the first picture that cannot be read or does not fit the model, after the answers before it.
    """
    stop = threading.Event()
    # Loading a picture silences warnings, which is one state for all threads: what they restore is silence, too.
    with warnings.catch_warnings(), ThreadPoolExecutor(jobs, "tinymbn-eval") as threads:
        warnings.simplefilter("ignore")
        answers = _futures(pictures, lambda picture: threads.submit(_answer, interpreter, picture, match, stop))
        try:
            pending = deque(islice(answers, _WAITING * jobs))
            while pending:
                answer = pending.popleft().result()
                assert answer is not None  # nothing has stopped yet
                pending.extend(islice(answers, 1))
                yield answer
        finally:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)


def _futures(
    pictures: Iterable[LabelledPicture], submit: Callable[[LabelledPicture], Future[Answer | None]]
) -> Iterator[Future[Answer | None]]:
    """What is to come of each picture; of one that cannot be read its error, which so waits for its turn."""
    try:
        for picture in pictures:
            yield submit(picture)
    except TinymbnError as error:
        failed: Future[Answer | None] = Future()
        failed.set_exception(error)
        yield failed


def _answer(
    interpreter: Interpreter, picture: LabelledPicture, match: ClassMatch, stop: threading.Event
) -> Answer | None:
    """What the model says; None if it was stopped."""
    graph = interpreter.graph
    x = load_labelled(picture, graph)
    if stop.is_set():
        return None
    outputs = interpreter.run(x)
    scores: NDArray[Any] = outputs[0] if isinstance(outputs, tuple) else outputs
    return answer_of(class_values(scores, graph.output_tensors[0]), match.classes[picture.dataset_class])


def answer_of(scores: NDArray[Any], true: int) -> Answer:
    """The answer in scores, one a class; among equal scores the lower class comes first, as in ``labels.top``."""
    before = np.count_nonzero(scores > scores[true]) + np.count_nonzero(scores[:true] == scores[true])
    return Answer(true, int(scores.argmax()), int(before))
