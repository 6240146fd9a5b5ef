"""PointCloudKind: how are places in space stored, and their colours?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from allogger.kind import Kind
from allogger.kinds.mesh import colours, is_of_open3d, is_of_trimesh, joined, legacy, points
from allogger.plain import Unstorable, copied
from allogger.record import Payload

__all__ = ["PointCloudKind"]

# Places alone, with red, green and blue, and with opacity.
_WIDTHS = (3, 6, 7)


class PointCloudKind(Kind):
    """Points: an array (N, 3), with colours behind it (N, 6) or (N, 7), or ``{"points": (N, 3), "colors": (N, 3)}``.

    Colours have 3 or 4 channels, of integers to 255 or floats to 1. A point cloud of trimesh or open3d is known as one.
    It reads back as a dict of arrays of the same dtypes.
    """

    name = "point_cloud"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is a point cloud of trimesh or open3d."""
        return is_of_trimesh(value, "PointCloud") or is_of_open3d(value, "PointCloud")

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return an array with the fields ``points`` and ``colors``; raises `Unstorable` for what is no cloud."""
        parts = _parts(value)
        found = {"points": points("the points of a cloud", parts["points"])}
        if parts.get("colors") is not None:
            found["colors"] = colours(parts["colors"], len(found["points"]))
        return joined(found), {}

    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        """Return the points as a dict of arrays."""
        rows = np.asarray(payload)
        return {name: np.array(rows[name], order="C") for name in rows.dtype.names or ()}


def _parts(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        if not {"points"} <= value.keys() <= {"points", "colors"}:
            raise Unstorable("of a point cloud there are 'points', and maybe 'colors'")
        return value
    if PointCloudKind().accepts(value):
        try:
            return _of_object(legacy(value))
        except Exception as error:
            raise Unstorable(f"the point cloud cannot be read: {type(error).__name__}") from error
    rows = copied(value)
    if rows.ndim != 2 or rows.shape[1] not in _WIDTHS:
        raise Unstorable(f"a point cloud has the shape (N, 3), (N, 6) or (N, 7), not {rows.shape}")
    return {"points": rows[:, :3], "colors": rows[:, 3:] if rows.shape[1] > 3 else None}


def _of_object(cloud: Any) -> Mapping[str, Any]:
    # open3d says points, trimesh says vertices; where there are no colours, theirs are empty.
    places = np.asarray(cloud.points if is_of_open3d(cloud, "PointCloud") else cloud.vertices)
    colors = np.asarray(cloud.colors)
    return {"points": places, "colors": colors if colors.size else None}
