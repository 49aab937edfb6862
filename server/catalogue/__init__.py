"""Model cards, weights on disk and lock files, without torch. Begin with `card`, then `weights`.

How to write a card: `server/ensemble/README.md`.
"""

from server.catalogue.card import InputForm, ModelCard, card_named, cards, lowered, parse_card, read_cards
from server.catalogue.code_in_files import code_it_runs, own_module, trust_fault
from server.catalogue.lock import check_lock, read_lock, write_lock
from server.catalogue.weights import cache_dir, locate, pull, verify

__all__ = [
    "InputForm",
    "ModelCard",
    "cache_dir",
    "card_named",
    "cards",
    "check_lock",
    "code_it_runs",
    "locate",
    "lowered",
    "own_module",
    "parse_card",
    "pull",
    "read_cards",
    "read_lock",
    "trust_fault",
    "verify",
    "write_lock",
]
