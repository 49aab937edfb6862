"""Asks a network of other people about pictures, and says in one line what is wrong with its answers."""

from server.ensemble.building.look.asking import a_row, ask, chosen_part, numbers_of
from server.ensemble.building.look.classifier import Stated, check_load, look
from server.ensemble.building.look.detector import check_detector

__all__ = ["Stated", "a_row", "ask", "check_detector", "check_load", "chosen_part", "look", "numbers_of"]
