"""Asks a network of other people about pictures, and says in one line what is wrong with its answers."""

from server.ensemble.building.look.asking import first_tensor
from server.ensemble.building.look.classifier import check_load, look
from server.ensemble.building.look.detector import check_detector

__all__ = ["check_detector", "check_load", "first_tensor", "look"]
