"""Evidence of what a camera looks at: the places of edges, in ten bytes.

Light, weather and infrared change how bright things are, hardly where their edges lie. So two pictures of one scene
have alike profiles of edges: the strength of upright edges by column, in an upper and a lower strip, and of level edges
by row, in a left and a right half. A camera that was turned shows the same profile elsewhere, or another one. A bit
says whether a profile is stronger there than around it.
"""

from __future__ import annotations

import base64

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor

COLUMNS, ROWS = 24, 16
_PARTS = 2
_SMOOTH = 5
_FAINT = 0.7
"""Grey levels a pixel: edges that are weaker are noise."""
_AROUND = 2
"""Places to either side that a place is compared with."""
_LEAST_SHAPE = 0.07
"""A profile that is flatter, in the mean, shows no scene."""


def scene_evidence(frames: Tensor) -> str | None:
    """The evidence of a burst's frames, [T, 1, h, w] in grey levels: URL-safe base64 without padding.

    None where they show too little: in darkness, in fog, and before a lens that is covered.
    """
    view = F.avg_pool2d(frames.mean(0, keepdim=True), _SMOOTH, stride=1)
    across, down = view.diff(dim=3).abs()[..., :-1, :], view.diff(dim=2).abs()[..., :-1]
    if min(across.shape[2:]) < COLUMNS:
        return None
    columns = _relief(F.adaptive_avg_pool2d(across, (_PARTS, COLUMNS))[0, 0])
    rows = _relief(F.adaptive_avg_pool2d(down, (ROWS, _PARTS))[0, 0].T)
    relief = torch.cat((columns.flatten(), rows.flatten()))
    if float(relief.abs().mean()) < _LEAST_SHAPE:
        return None
    bits = sum(1 << place for place, is_stronger in enumerate((relief > 0).tolist()) if is_stronger)
    return base64.urlsafe_b64encode(bits.to_bytes(len(relief) // 8, "little")).rstrip(b"=").decode()


def _relief(profiles: Tensor) -> Tensor:
    """By how much each place of a profile is stronger than the mean around it, as a logarithm."""
    profiles = torch.log(profiles + _FAINT)
    around = F.pad(profiles[:, None], (_AROUND, _AROUND), mode="replicate")
    return profiles - F.avg_pool1d(around, 2 * _AROUND + 1, stride=1)[:, 0]
