"""Requests that wait for workers, shared out by client.

The requests of one client are in order of arrival. Among clients, the next image is of the one whose images have taken
the least of the workers' time; of equals, the one whose last turn is longest ago. So clients take turns, image by
image, and one whose pictures take ten times as long gets a tenth as many. A client that comes back does not get the
time it has not used: it starts level with those who wait. This is start-time fair queueing (Goyal, Vin, Cheng, 1996),
with the measured time of an image as its length.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from server.engine.job import Job
from server.engine.stages import Stages

_REMEMBERED = 256
"""Beyond that many clients, those who wait for nothing are forgotten, with the time that they had too much."""


@dataclass(eq=False, slots=True)
class _Client:
    """`used_s` is the workers' time that this client's images took, `turn` the number of its last turn.

    `images` is how many images of its `jobs` wait.
    """

    used_s: float
    turn: int
    images: int = 0
    jobs: deque[Job] = field(default_factory=deque)


class FairQueue:
    """Not safe from several threads: the batcher holds its lock."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}
        """Those who wait, and those of whom images are being worked on."""
        self._level_s = 0.0
        self._turns = 0
        self._images = 0

    def __bool__(self) -> bool:
        return any(client.jobs for client in self._clients.values())

    def __iter__(self) -> Iterator[Job]:
        """Every request that waits, client by client."""
        return (job for client in self._clients.values() for job in client.jobs)

    def append(self, job: Job) -> None:
        if len(self._clients) >= _REMEMBERED:
            self._clients = {name: client for name, client in self._clients.items() if client.jobs}
        client = self._clients.setdefault(job.client, _Client(self._level_s, 0))
        if not client.jobs:
            client.used_s = max(client.used_s, self._level_s)
        client.jobs.append(job)
        self._count(client, job.images_left)

    def remove(self, job: Job) -> None:
        client = self._clients[job.client]
        client.jobs.remove(job)
        self._count(client, -job.images_left)

    def next(self, stages: Stages | None = None) -> Job | None:
        """The request whose image is next, of the ensemble `stages` where it is given."""
        waiting = [
            client
            for client in self._clients.values()
            if client.jobs and (stages is None or client.jobs[0].stages is stages)
        ]
        chosen = min(waiting, key=lambda client: (client.used_s, client.turn), default=None)
        return None if chosen is None else chosen.jobs[0]

    def take(self, job: Job, expected_s: float) -> None:
        """Count one input of `job`, the head of its client's requests, as taken; it is to take `expected_s`."""
        client = self._clients[job.client]
        self._level_s = max(self._level_s, client.used_s)
        self._turns += 1
        client.used_s, client.turn = client.used_s + expected_s, self._turns
        job.taken += 1
        self._count(client, -job.images_each)
        if not job.left:
            client.jobs.popleft()

    def correct(self, job: Job, by_s: float) -> None:
        """An input of `job` took longer than expected by so much."""
        if job.client in self._clients:
            self._clients[job.client].used_s += by_s

    def images(self) -> int:
        """How many images wait."""
        return self._images

    def images_of(self, name: str) -> int:
        """How many images of this client wait."""
        return self._clients[name].images if name in self._clients else 0

    def images_before(self, name: str, images: int) -> int:
        """How many waiting images come before the last of `images` more of this client: its own, and as many of each
        other's."""
        own = self.images_of(name)
        others = (client.images for other, client in self._clients.items() if other != name)
        return own + sum(min(each, own + images) for each in others)

    def frames(self) -> Counter[str]:
        """How many frames of each client wait; a frame with enlarged sectors is one."""
        return Counter({name: sum(job.left for job in client.jobs) for name, client in self._clients.items()})

    def newest_unbegun_of(self, name: str, but: Collection[Job] = ()) -> Job | None:
        """The client's newest request of which nothing was begun, without those of `but`."""
        return next((job for job in reversed(self._clients[name].jobs) if not job.taken and job not in but), None)

    def _count(self, client: _Client, images: int) -> None:
        client.images += images
        self._images += images
