"""A card to its network. Begin with `network`; `foreign` reads formats of other people, `look` asks about pictures."""

from server.ensemble.building.network import module_of, network_of

__all__ = ["module_of", "network_of"]
