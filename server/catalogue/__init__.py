"""The models there are, by their cards, and their weights on disk. Knows no torch.

Reading order: `card` (what is written about a model), `weights` (where its weights are, and how they come there),
`package_index` (one file out of a source distribution, without running any of it).
"""

from server.catalogue.card import InputForm, ModelCard, card_named, cards, parse_card, targets
from server.catalogue.lock import check_lock, read_lock, write_lock
from server.catalogue.weights import cache_dir, locate, pull, verify

__all__ = [
    "InputForm",
    "ModelCard",
    "cache_dir",
    "card_named",
    "cards",
    "check_lock",
    "locate",
    "parse_card",
    "pull",
    "read_lock",
    "targets",
    "verify",
    "write_lock",
]
