"""Keeps the libraries of Hugging Face from downloading: a card's weights are all that its network gets."""

from __future__ import annotations

import os
import sys


def stay_offline() -> None:
    """Call it before transformers or timm is imported. It holds where their hub was imported before, too."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
