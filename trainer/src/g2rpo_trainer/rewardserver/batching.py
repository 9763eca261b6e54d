"""Requests of many clients, scored together: a network works best with many pictures at a time.

Who calls this: `server.py`, whose threads wait for their answers. One thread asks the reward, which therefore need not
bear several at once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.protocol import Reward, UnscoredError

MAX_WAITING = 256
"""Requests that may wait for their turn."""
Score = Callable[[Sequence[Tensor], Sequence[Prompt]], Tensor]
"""Pictures, uint8 [3, H, W], and prompts to scores [N]."""


class BusyError(RuntimeError):
    """Too many requests wait already."""


@dataclass(frozen=True)
class Task:
    """A request, and where its scores go."""

    images: Sequence[Tensor]
    prompts: Sequence[Prompt]
    answer: Future[Tensor] = field(default_factory=Future)


class Batcher:
    """Collects requests up to a number of pictures, or for a moment, and asks for all of their scores at once."""

    def __init__(self, score: Score, max_pictures: int, wait_seconds: float) -> None:
        """Start.

        Args:
            score: called from one thread only.
            max_pictures: no request is added to as many.
            wait_seconds: how long the first request of a batch may wait for others.
        """
        self._score = score
        self._max_pictures = max_pictures
        self._wait_seconds = wait_seconds
        self._waiting: queue.Queue[Task | None] = queue.Queue(MAX_WAITING)
        self._reward = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reward")
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests are still answered."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._waiting.qsize()

    def submit(self, images: Sequence[Tensor], prompts: Sequence[Prompt]) -> Future[Tensor]:
        """Scores to come, float32 [N], or what the reward raised.

        Raises:
            BusyError: too many requests wait.
        """
        task = Task(images, prompts)
        try:
            self._waiting.put_nowait(task)
        except queue.Full as error:
            raise BusyError(f"{MAX_WAITING} requests wait already; ask again later") from error
        return task.answer

    def close(self) -> None:
        """Answer what waits, then end."""
        self._waiting.put(None)
        self._thread.join()
        self._reward.shutdown()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            self._answer([first, *self._companions(len(first.images))])

    def _companions(self, pictures: int) -> Iterator[Task]:
        """Requests that come in time and leave room."""
        until = time.monotonic() + self._wait_seconds
        while pictures < self._max_pictures:
            try:
                task = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            if task is None:
                self._waiting.put(None)  # the end comes after this batch
                return
            pictures += len(task.images)
            yield task

    def _answer(self, tasks: Sequence[Task]) -> None:
        images = [image for task in tasks for image in task.images]
        prompts = [prompt for task in tasks for prompt in task.prompts]
        outcome = self._reward.submit(self._score, images, prompts)
        error = outcome.exception()
        if error is None:
            for task, part in zip(tasks, outcome.result().split([len(task.images) for task in tasks]), strict=True):
                task.answer.set_result(part)
        elif len(tasks) == 1:
            tasks[0].answer.set_exception(error)
        else:  # one request shall not spoil the others'
            for task in tasks:
                self._answer([task])


def by_size(reward: Reward) -> Score:
    """A reward for pictures of any sizes: those of a size are scored together."""

    def score(images: Sequence[Tensor], prompts: Sequence[Prompt]) -> Tensor:
        scores = torch.full((len(images),), torch.nan)
        for shape in dict.fromkeys(image.shape for image in images):
            rows = [i for i, image in enumerate(images) if image.shape == shape]
            pictures = torch.stack([images[i] for i in rows]).float() / 255  # bytes until now: many may wait
            scores[rows] = _answered(reward, pictures, [prompts[i] for i in rows])
        return scores

    return score


def _answered(reward: Reward, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """Scores on the CPU; NaN where a picture has none."""
    try:
        scores = reward.score(images, prompts)
    except UnscoredError as error:
        scores = error.scores
    if scores.shape != (len(prompts),):
        raise RuntimeError(f"the reward answered with shape {tuple(scores.shape)} for {len(prompts)} pictures")
    return scores.detach().float().cpu()
