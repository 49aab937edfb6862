"""The life of one server process: what is started once, what goes on beside the requests, and how it stops."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from server.delivery.channels import Channel
from server.delivery.dispatcher import Delivery
from server.domain.errors import ConfigurationError, RetryLater
from server.engine import Load
from server.monitoring.metrics import Metrics
from server.pipeline.pipeline import Ensemble, Pipeline
from server.pipeline.site_policies import Sites
from server.serving.service import Service
from server.store import Store
from server.web.admission import Admission
from server.web.control import Control
from server.web.probes import AdminPort

log = logging.getLogger(__name__)

_STOP_S = 10.0
_RELEASE_EVERY_S = 10.0
_LOOK_EVERY_S = 10.0
_RECHECK_SOON_S = 60.0


class Runtime:
    """The parts of one server process, and their life: `start` once, `stop` once, from one thread.

    `models` says which ones to begin with. An ensemble that is `given` serves as it is, and is never swapped.
    """

    def __init__(
        self,
        store: Store,
        sites: Sites,
        channels: Sequence[Channel],
        service: Service,
        models: Callable[[], Sequence[str]],
        admission: Admission,
        metrics: Metrics,
        *,
        golden_every_s: float,
        given: tuple[Ensemble, Pipeline] | None = None,
    ) -> None:
        self.store = store
        self.sites = sites
        self.service = service
        self.admission = admission
        self.metrics = metrics
        self.delivery = Delivery(store, channels)
        self.admin_port: AdminPort | None = None
        self.control: Control | None = None
        self._models = models
        self._given = given
        self._golden_every_s = golden_every_s
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def ensemble(self) -> Ensemble:
        """The ensemble in service. Raises RetryLater until there is one."""
        return self._ready()[0]

    def pipeline(self) -> Pipeline:
        """The pipeline around the ensemble in service. Raises RetryLater until there is one."""
        return self._ready()[1]

    def start(self, on_failure: Callable[[Exception], None], on_stuck: Callable[[], None] = lambda: None) -> None:
        """Load the ensemble and begin delivery, in threads of their own, so that probes are answered meanwhile.

        `on_failure` is called, in the loading thread, with whatever kept the ensemble from loading, and at once
        with what keeps the admin port from opening; `on_stuck`, in yet another, when the engine falls silent: this
        server is not ready any more, and only a new process helps.
        """
        try:
            for port in (self.admin_port, self.control):
                if port is not None:
                    port.start()
        except ConfigurationError as error:
            on_failure(error)
            return
        if self._given is None:
            self._run("loading", lambda: self._load_or(on_failure, on_stuck))
            if self._golden_every_s:
                self._run("golden", self._replay_golden)
        self._run("delivery", lambda: self.delivery.run(self._stopping))
        self._run("release", self._release_held)
        self._run("recall", self._recall)
        self._run("sites", self._look_at_sites)

    def stop(self) -> None:
        """Refuse new uploads, finish what the engine has, end delivery after the event in hand, close the database."""
        self.drain()
        if self.service.engine is not None:
            self.service.engine.stop()
        self._stopping.set()
        self.delivery.wake()
        for thread in self._threads:
            thread.join(_STOP_S)
        for port in (self.control, self.admin_port):
            if port is not None:
                port.stop()
        self.store.close()

    def drain(self) -> None:
        """Not ready from now on; nothing more is taken in, what is in work goes on. A signal handler may call it."""
        self.admission.close()

    def load(self) -> Load:
        """How much the engine has to do."""
        return self.service.engine.load() if self.service.engine is not None else Load(0, 0, None, 0.0)

    def refuse_if_full(self) -> None:
        """Raises RetryLater when the engine has no room for another image."""
        if self.service.engine is not None:
            self.service.engine.refuse_if_full()

    def _ready(self) -> tuple[Ensemble, Pipeline]:
        if self.admission.closed:
            raise RetryLater("this server is stopping", retry_after_s=10)
        if self._given is not None:
            return self._given
        served = self.service.current()
        return served.ensemble, served.pipeline

    def _run(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"sectorwatch-{name}")
        self._threads.append(thread)
        thread.start()

    def _load_or(self, on_failure: Callable[[Exception], None], on_stuck: Callable[[], None]) -> None:
        def stuck() -> None:
            self.drain()
            on_stuck()

        try:
            self.service.begin(self._models(), stuck)
        except Exception as error:  # noqa: BLE001  whatever it is, the process must not pretend to serve
            on_failure(error)

    def _recall(self) -> None:
        """Once: what the metrics tell of cameras that sent their last burst to an earlier process."""
        try:
            for head in self.store.cameras():
                self.metrics.seen(head.site, head.camera, head.last_at_us)
        except Exception:
            log.exception("cameras not recalled")

    def _look_at_sites(self) -> None:
        """At the start and now and then: a site policy that cannot be used is told before a burst needs it."""
        self.sites.faults()
        while not self._stopping.wait(_LOOK_EVERY_S):
            self.sites.faults()

    def _release_held(self) -> None:
        """Now and then: bursts that came from the future of our clock have their turn once it has caught up."""
        while not self._stopping.wait(_RELEASE_EVERY_S):
            try:
                self.pipeline().release_held()
            except RetryLater:
                continue
            except Exception:
                log.exception("held bursts not released")

    def _replay_golden(self) -> None:
        """Now and then, and sooner where it could not be done, or went wrong, the last time."""
        wait_s = self._golden_every_s
        while not self._stopping.wait(wait_s):
            try:
                done = self.service.recheck()
            except Exception:
                log.exception("golden set not replayed")
                done = False
            is_well = done and self.service.is_approved
            wait_s = self._golden_every_s if is_well else min(self._golden_every_s, _RECHECK_SOON_S)
