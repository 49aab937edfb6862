"""Model cards, weights on disk and lock files, without torch. Begin with `card`, then `card_files`, `weights`.

How to write a card: `server/ensemble/README.md`.
"""

from server.catalogue.card import InputForm, ModelCard, lowered
from server.catalogue.card_files import Fault, card_named, cards, parse_card, read_cards
from server.catalogue.code_in_files import code_it_runs, is_refused, own_module, trust_fault
from server.catalogue.lock import check_lock, read_lock, write_lock
from server.catalogue.weights import cache_dir, can_pull, locate, pull, remedy, verify

__all__ = [
    "Fault",
    "InputForm",
    "ModelCard",
    "cache_dir",
    "can_pull",
    "card_named",
    "cards",
    "check_lock",
    "code_it_runs",
    "is_refused",
    "locate",
    "lowered",
    "own_module",
    "parse_card",
    "pull",
    "read_cards",
    "read_lock",
    "remedy",
    "trust_fault",
    "verify",
    "write_lock",
]
