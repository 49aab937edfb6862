"""LitServe: a worker with one thread per core, each with a copy of the models, which takes up to two requests at once
within 5 ms; its best setting where it was measured.

python -m tests.benchmarks.serving.peer_litserve ENSEMBLE FOOTAGE
"""

from __future__ import annotations

import os
import sys
import threading
import urllib.request
from pathlib import Path

import litserve  # type: ignore[import-not-found, unused-ignore]

from tests.benchmarks.serving.peers import Asked, free_port, tell
from tests.benchmarks.serving.wire import Labels

_MERGED_REQUESTS = 2
_WAIT_S = 0.005


class Api(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    def setup(self, device: str) -> None:
        import torch

        torch.set_num_threads(1)
        self.asked = Asked(sys.argv[1], Path(sys.argv[2]))

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe takes an annotation for a schema
        return [part.file.read() for part in request.getlist("file")]

    def batch(self, inputs: list[list[bytes]]) -> list[list[bytes]]:
        return inputs

    def predict(self, bursts: list[list[bytes]]) -> list[Labels]:
        return self.asked(bursts)

    def unbatch(self, output: list[Labels]) -> list[Labels]:
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return output


def main() -> None:
    port = free_port()
    api = Api(max_batch_size=_MERGED_REQUESTS, batch_timeout=_WAIT_S, api_path="/batch")
    workers = len(os.sched_getaffinity(0))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=300)
    threading.Thread(target=_tell_when_well, args=(port,), daemon=True).start()
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="warning")


def _tell_when_well(port: int) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    tell(port)
                    return
        except OSError:
            threading.Event().wait(0.2)


if __name__ == "__main__":
    main()
