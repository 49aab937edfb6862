"""A card to its network. Begin with `network`; `foreign` reads formats of other people, `look` asks about pictures."""

from server.ensemble.building.network import callable_of, module_of, network_of

__all__ = ["callable_of", "module_of", "network_of"]
