"""Admission control: what each client may have in work, and what its work is charged. Begin with `admission`."""

from server.web.admission.admission import PATIENT, SMALL_BODY_BYTES, Admission, Upload
from server.web.admission.pictures import PictureLimits
from server.web.admission.quota import Quota

__all__ = ["PATIENT", "SMALL_BODY_BYTES", "Admission", "PictureLimits", "Quota", "Upload"]
