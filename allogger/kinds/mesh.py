"""MeshKind: how is a surface of triangles stored?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.kind import Kind
from allogger.plain import Unstorable, copied, description
from allogger.record import Payload

__all__ = ["MeshKind", "colours", "is_of_open3d", "is_of_trimesh", "joined", "legacy", "points"]

_NAMES = ("vertices", "colors", "faces", "face_colors")


class MeshKind(Kind):
    """Triangles: ``{"vertices": (N, 3), "faces": (M, 3)}``, with ``"colors"`` of the vertices or ``"face_colors"``.

    Colours have 3 or 4 channels, of integers to 255 or floats to 1. A mesh of trimesh or open3d is known as one. It
    reads back as a dict of arrays of the same dtypes. The payload has a field for each of them; the attributes
    ``vertices`` and ``faces`` say how many of its rows count, and the others are zero.
    """

    name = "mesh"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is a mesh of trimesh or open3d."""
        return is_of_trimesh(value, "Trimesh") or is_of_open3d(value, "TriangleMesh")

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return the arrays side by side, and their lengths; raises `Unstorable` for what is no mesh."""
        parts = _parts(value)
        vertices = points("the vertices of a mesh", parts["vertices"])
        faces = _faces(parts["faces"], len(vertices))
        found = {"vertices": vertices, "faces": faces}
        for name, owner in (("colors", vertices), ("face_colors", faces)):
            if parts.get(name) is not None:
                found[name] = colours(parts[name], len(owner))
        return joined({name: found[name] for name in _NAMES if name in found}), {
            "vertices": len(vertices),
            "faces": len(faces),
        }

    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        """Return the mesh as a dict of arrays."""
        rows = np.asarray(payload)
        counts = {name: attrs["faces" if name.startswith("face") else "vertices"] for name in rows.dtype.names or ()}
        return {name: np.array(rows[name][:count], order="C") for name, count in counts.items()}


def _parts(value: Any) -> Mapping[str, Any]:
    """Return what a mesh is made of, by the names that we have for it."""
    if isinstance(value, Mapping):
        if not {"vertices", "faces"} <= value.keys() <= set(_NAMES):
            raise Unstorable("of a mesh there are 'vertices' and 'faces', and maybe 'colors' and 'face_colors'")
        return value
    try:
        return _of_object(legacy(value))
    except Unstorable:
        raise
    except Exception as error:
        raise Unstorable(f"the mesh cannot be read: {type(error).__name__}") from error


def _of_object(mesh: Any) -> Mapping[str, Any]:
    if is_of_trimesh(mesh, "Trimesh"):
        visual = mesh.visual
        if visual.kind == "texture":
            # The picture itself has no place here; its colours at the vertices have.
            visual = visual.to_color()
        return {
            "vertices": mesh.vertices,
            "faces": mesh.faces,
            "colors": visual.vertex_colors if visual.kind == "vertex" else None,
            "face_colors": visual.face_colors if visual.kind == "face" else None,
        }
    if not hasattr(type(mesh), "triangles"):
        raise Unstorable(f"a mesh is a dict, or one of trimesh or open3d, not {description(mesh)}")
    # Where open3d has no colours, they are empty.
    colors = np.asarray(mesh.vertex_colors)
    return {
        "vertices": np.asarray(mesh.vertices),
        "faces": np.asarray(mesh.triangles),
        "colors": colors if colors.size else None,
    }


def _faces(value: Any, vertices: int) -> NDArray[Any]:
    faces = copied(value)
    if not faces.size:
        return np.empty((0, 3), faces.dtype if faces.dtype.kind in "iu" else np.int64)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise Unstorable(
            f"the faces of a mesh are triangles: integers of shape (M, 3), not {faces.dtype} of {faces.shape}"
        )
    if faces.min() < 0 or faces.max() >= vertices:
        raise Unstorable(f"the faces of a mesh go from vertex {faces.min()} to {faces.max()}, of {vertices}")
    return faces


# ------------------------------------------------------------------------------------------ for point clouds, too


def points(what: str, value: Any) -> NDArray[Any]:
    """Return places in space, one in each row; raises `Unstorable`."""
    found = copied(value)
    if not found.size and found.dtype.kind in "biuf":
        return found.reshape(0, 3)
    if found.ndim != 2 or found.shape[1] != 3 or found.dtype.kind not in "biuf":
        raise Unstorable(f"{what} are real numbers of shape (N, 3), not {found.dtype} of shape {found.shape}")
    return found


def colours(value: Any, count: int) -> NDArray[Any]:
    """Return a colour for each of *count* places; raises `Unstorable`."""
    found = copied(value)
    if not found.size and not count and found.dtype.kind in "biuf":
        return found.reshape(0, 3)
    if found.ndim != 2 or found.shape[1] not in (3, 4) or len(found) != count or found.dtype.kind not in "biuf":
        raise Unstorable(
            f"the colours are numbers of shape ({count}, 3) or ({count}, 4), not {found.dtype} of shape {found.shape}"
        )
    return found


def joined(parts: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return arrays as the fields of one, as long as the longest of them.

    One dtype for meshes of all sizes: HDF5 then has one dataset for them.
    """
    longest = max(len(part) for part in parts.values())
    rows = np.zeros(longest, [(name, part.dtype, part.shape[1:]) for name, part in parts.items()])
    for name, part in parts.items():
        rows[name][: len(part)] = part
    return rows


def is_of_trimesh(value: Any, name: str) -> bool:
    """Return whether *value* is of a class of trimesh, which need not be installed."""
    cls = getattr(sys.modules.get("trimesh"), name, None)
    return isinstance(cls, type) and issubclass(type(value), cls)


def is_of_open3d(value: Any, name: str) -> bool:
    """Return whether *value* is of a class of open3d, or of its module for tensors."""
    return any(cls.__name__ == name and cls.__module__.partition(".")[0] == "open3d" for cls in type(value).__mro__)


def legacy(value: Any) -> Any:
    """Return an object of open3d as the one with the arrays that numpy takes."""
    return value.to_legacy() if hasattr(type(value), "to_legacy") else value
