"""A process that is connected to Ray, beside the server: it does what `link` asks. Only this module imports ray.

Ray's core may end the process it lives in, takes its signals and logs, and some of its calls never return while the
head is away. The server ends this process then, and starts another. It ends itself when the server is gone.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import ray
from ray import serve
from ray.exceptions import ActorAlreadyExistsError, GetTimeoutError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException

from server.domain.errors import ConfigurationError, RetryLater
from server.ray_serving.messages import Called, Deployment, Lost, Seen, failed, one_line, returned
from server.ray_serving.replica import ONGOING, Replica, inspect
from server.ray_serving.scaling import ByQueuedImages

DEPLOYMENT = "ensemble"

_THREADS = 256
"""More than the uploads that a server admits at once."""

_HEALTH_S = 2.0
_STARTS, _START_AGAIN_S = 10, 0.5

_deployment: Callable[[bytes], Deployment] = msgspec.msgpack.Decoder(Deployment).decode
_called: Callable[[bytes], Called] = msgspec.msgpack.Decoder(Called).decode


class Driver:
    """What a server asks of Ray: each method is called by name, in a thread of its own."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._hanging: set[str] = set()

    def connect(self, address: str) -> None:
        """Raises RetryLater when the cluster lets nobody in, ConfigurationError when it cannot be used."""
        try:
            ray.init(address, namespace="sectorwatch", log_to_driver=False, configure_logging=False)
        except ConnectionError as error:
            raise RetryLater(f"the cluster lets this server not in: {one_line(error)}; {_HINT}") from error
        except (RuntimeError, ValueError) as error:
            raise ConfigurationError(f"the cluster cannot be used: {one_line(error)}; {_HINT}") from error
        _start_serve()

    def inspect(
        self, terms: dict[str, Any], models: Sequence[str], loading: bytes, gpus: float, within_s: float
    ) -> bytes:
        """The reply of `replica.inspect` on some node. Raises TimeoutError; ConfigurationError when no node can."""
        remote = ray.remote(num_cpus=0, num_gpus=gpus, max_calls=1)(inspect)
        asked = remote.remote(terms, tuple(models), pickle.loads(loading))  # noqa: S301  of the server that started this
        try:
            reply: bytes = ray.get(asked, timeout=within_s)
        except GetTimeoutError:
            ray.cancel(asked, force=True)
            raise
        except RayError as error:
            raise ConfigurationError(f"no node can load {', '.join(models)}: {one_line(error)}") from error
        return reply

    def deploy(self, packed: bytes) -> None:
        """Begin to make the replicas of a `Deployment`, instead of those that there are."""
        wanted = _deployment(packed)
        replica = serve.deployment(
            Replica,
            name=DEPLOYMENT,
            max_ongoing_requests=ONGOING,
            max_queued_requests=wanted.max_queued_requests,
            ray_actor_options={"num_cpus": wanted.cpus, "num_gpus": wanted.gpus},
            graceful_shutdown_timeout_s=wanted.stopped_within_s,
            health_check_period_s=_HEALTH_S,
            max_constructor_retry_count=3,
            **_scaling(wanted),
        )
        bound = replica.bind(
            wanted.terms,
            wanted.models,
            wanted.ensemble,
            wanted.terms_digest,
            insists=wanted.insists,
            loading=pickle.loads(wanted.loading),  # noqa: S301
        )
        target = serve.RunTarget(bound, name=wanted.name, route_prefix=None)
        serve.run_many([target], wait_for_applications_running=False)
        self._handles.pop(wanted.name, None)

    def applications(self) -> dict[str, Seen]:
        """All of the cluster."""
        return {name: _seen(each) for name, each in serve.status().applications.items()}

    def delete(self, name: str) -> None:
        serve.delete(name, _blocking=False)
        self._handles.pop(name, None)

    def ask(self, name: str, packed: bytes, within_s: float) -> bytes:
        """The reply of one replica. Raises Lost, TimeoutError, and RetryLater when too many requests wait."""
        try:
            response = self._handle(name).answer.remote(packed)
        except (TimeoutError, RayError, RayServeException) as error:
            raise Lost(one_line(error)) from error
        try:
            answer: bytes = response.result(timeout_s=within_s)
        except TimeoutError:
            self._hanging.add(name)
            response.cancel()
            raise
        except BackPressureError as error:
            raise RetryLater(f"too many requests wait for the cluster: {error}") from error
        except (RayError, RayServeException) as error:
            raise Lost(one_line(error)) from error
        return answer

    def each(self, name: str, method: str, given: Sequence[str], within_s: float) -> list[Any]:
        """What each replica returns, of those that do. Raises Lost where none does."""
        if name in self._hanging:  # now and then a handle hangs (ray-project/ray#55142)
            self._hanging.discard(name)
            self._handles.pop(name, None)
        try:
            came = self._handle(name).broadcast(method, *given).results(timeout_s=within_s, return_exceptions=True)
        except (TimeoutError, RayError, RayServeException) as error:
            self._handles.pop(name, None)
            raise Lost(one_line(error)) from error
        answers = [one for one in came if not isinstance(one, Exception)]
        if not answers:
            self._handles.pop(name, None)
            raise Lost(one_line(came[0]) if came else "it has no replica")
        return answers

    def _handle(self, name: str) -> Any:
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles[name] = serve.get_app_handle(name)
        return handle


def _start_serve() -> None:
    """Start Ray Serve, or find it started. Of servers that start it at once on a new cluster, Ray turns all but one
    away. Raises RetryLater when it stays so.
    """
    for _ in range(_STARTS):
        try:
            serve.start(proxy_location="Disabled")
        except ActorAlreadyExistsError:
            time.sleep(_START_AGAIN_S)
        else:
            return
    raise RetryLater("other servers start Ray Serve on the cluster, and it does not get ready")


def main(descriptor: int) -> None:
    """Answer calls until the other end is closed."""
    connection, sending, driver = Connection(descriptor), threading.Lock(), Driver()

    def do(called: Called) -> None:
        try:
            packed = returned(called.number, getattr(driver, called.method)(*called.given))
        except Exception as error:  # noqa: BLE001  the server raises it again
            packed = failed(called.number, error)
        with sending:
            connection.send_bytes(packed)

    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sectorwatch-ray")
    try:
        while True:
            pool.submit(do, _called(connection.recv_bytes()))
    except (EOFError, OSError):
        os._exit(0)  # calls may hang in Ray


_HINT = (
    "this machine must be a node of it, in the same version of Ray (`ray start --address=...`, `ray status`); if its "
    "head has a token, set RAY_AUTH_MODE=token here, and copy ~/.ray/auth_token"
)


def _scaling(wanted: Deployment) -> dict[str, Any]:
    if wanted.least == wanted.most:
        return {"num_replicas": wanted.least}
    rule = {"policy_function": ByQueuedImages, "policy_kwargs": {"each": wanted.queued_images}}
    return {
        "autoscaling_config": {
            "min_replicas": wanted.least,
            "max_replicas": wanted.most,
            "policy": rule,
            "upscale_delay_s": wanted.more_after_s,
            "downscale_delay_s": wanted.fewer_after_s,
            "look_back_period_s": wanted.seen_over_s,
        }
    }


def _seen(application: Any) -> Seen:
    deployment = application.deployments.get(DEPLOYMENT)
    counts = {} if deployment is None else dict(deployment.replica_states)
    words = (line.strip() for line in reversed(application.message.splitlines()) if line.strip())
    return Seen(str(application.status.value), next(words, ""), counts.get("RUNNING", 0), sum(counts.values()))


if __name__ == "__main__":
    # Ray would end this process at SIGTERM, while the server finishes its requests.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    logging.disable(logging.CRITICAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # Ray's core writes there whatever its settings
    main(int(sys.argv[1]))
