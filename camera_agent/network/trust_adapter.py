"""HTTP and HTTPS connections to one camera or server, with the certificate that its settings trust."""

from __future__ import annotations

from typing import Any

import requests

from camera_agent.network.certificates import PUBLIC, Trust, tls_context
from camera_agent.network.proxies import OwnNetworkAdapter


class TrustAdapter(OwnNetworkAdapter):
    """Trusts what `trust` says, also where the environment names authorities of its own."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **options, **self._tls())

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        if proxy in self.proxy_manager:
            return self.proxy_manager[proxy]
        if proxy.lower().startswith("https:"):  # its own certificate is public, whatever is trusted behind it
            options["proxy_ssl_context"] = tls_context(PUBLIC)
        return super().proxy_manager_for(proxy, **options, **self._tls())

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        if self._trust.fingerprint is not None:
            options["verify"] = False  # the context compares the fingerprint
        elif self._trust.ca_file is not None:
            options["verify"] = self._trust.ca_file
        return super().send(request, *args, **options)

    def _tls(self) -> dict[str, Any]:
        if self._trust.fingerprint is not None:
            return {"ssl_context": tls_context(self._trust), "assert_fingerprint": self._trust.fingerprint}
        if self._trust.ca_file is not None:
            return {"ssl_context": tls_context(self._trust), "assert_hostname": False}
        return {}
