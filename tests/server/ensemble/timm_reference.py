"""What timm says: the independent implementation of EfficientNet-lite that ours has to agree with, as recorded.

Run `python -m tests.server.ensemble.timm_reference` to record anew, on purpose; it needs timm, which the tests do not.
timm's `tf_efficientnet_lite*` hold the same layers in the same order, so the published state dict fits by position.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RECORDED = Path(__file__).parent / "recorded" / "efficientnet-lite.json"
NAMES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
EVERY = 20


def probe(side: int) -> Tensor:
    """Two rows [2, 3, side, side] in -1..1 that are the same on every machine: coarse waves, and fine ones."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    coarse = torch.stack([torch.sin(x / 31), torch.cos(y / 17), torch.sin((x + y) / 53)])
    fine = torch.stack([torch.cos(x * y / 997), torch.sin(x / 5), torch.cos(y / 3)])
    return torch.stack([coarse, fine]).float()


def recorded() -> Any:
    return json.loads(RECORDED.read_text("utf-8"))


def main() -> None:
    import timm  # type: ignore[import-not-found,unused-ignore]

    from server.catalogue import cache_dir, card_named, locate

    said = {}
    for name in NAMES:
        card = card_named(name)
        path = locate(card, cache_dir())
        assert path is not None
        published = torch.load(path, weights_only=True)
        network = timm.create_model(f"tf_{name.replace('-', '_')}").eval()
        keys = network.state_dict().keys()
        network.load_state_dict(dict(zip(keys, published.values(), strict=True)))
        with torch.inference_mode():
            logits = network(probe(card.input.size[0]))
        said[name] = [[round(value, 5) for value in row[::EVERY].tolist()] for row in logits]
    RECORDED.write_text(json.dumps({"timm": timm.__version__, "logits": said}) + "\n", "utf-8")


if __name__ == "__main__":
    main()
