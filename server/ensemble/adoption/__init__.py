"""Cards for networks that exist. `adopt` writes them, `apart` examines a file in a child process, which is `child`."""

from server.ensemble.adoption.adopt import Adopted, adopt, adopt_hugging_face, adopt_timm, adopt_torchvision
from server.ensemble.adoption.child import Limits
from server.ensemble.adoption.examination import DETECTOR_FORM, FLEXSERVE_FORM, Activation, Kind
from server.ensemble.adoption.file_format import SUFFIXES, format_of

__all__ = [
    "DETECTOR_FORM",
    "FLEXSERVE_FORM",
    "SUFFIXES",
    "Activation",
    "Adopted",
    "Kind",
    "Limits",
    "adopt",
    "adopt_hugging_face",
    "adopt_timm",
    "adopt_torchvision",
    "format_of",
]
