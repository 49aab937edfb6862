"""One replay at a time beside serving, as long as somebody asks for it."""

from __future__ import annotations

from server.replays.job import Job, Replayed


class Replays:
    """Replays of the database at a URL. Constructing starts nothing; the first job starts a thread and a child process.

    `ask` begins a job and shows how far it is: ask again until `Replayed.is_over`. The same job is not done twice while
    its result is remembered. A job of an owner (a user's page) takes the place of that owner's earlier one. A job that
    nobody has asked for in FORGOTTEN_S is given up.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, job: Job, owner: str, wait_s: float = 0.8) -> Replayed:
        """The job as far as it is done, after at most `wait_s`; at once when it is over."""
        raise NotImplementedError

    def close(self) -> None:
        """End the child process. Nothing can be asked afterwards."""
