"""MeshKind and PointCloudKind: do shapes keep their places and colours, and are they shown in TensorBoard?"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client
from werkzeug.wrappers import Response

import allogger
from allogger.kinds.mesh import MeshKind
from allogger.kinds.point_cloud import PointCloudKind
from allogger.plain import Unstorable
from tests.everywhere import series_of

PLACES = st.sampled_from(["f2", "f4", "f8", ">f4", "i4"])
COLOURS = st.sampled_from(["u1", "f4", "i8", "?"])
SQUARE = {"vertices": np.eye(4, 3), "faces": np.array([[0, 1, 2], [1, 2, 3]])}


@st.composite
def meshes(draw: st.DrawFn) -> dict[str, Any]:
    vertices, faces = draw(st.integers(1, 5)), draw(st.integers(0, 6))
    found: dict[str, Any] = {
        "vertices": draw(of_numpy.arrays(draw(PLACES), (vertices, 3))),
        "faces": draw(
            of_numpy.arrays(
                draw(st.sampled_from(["i4", "i8", "u4"])), (faces, 3), elements=st.integers(0, vertices - 1)
            )
        ),
    }
    for name, count in (("colors", vertices), ("face_colors", faces)):
        if draw(st.booleans()):
            found[name] = draw(of_numpy.arrays(draw(COLOURS), (count, draw(st.sampled_from([3, 4])) if count else 3)))
    return found


@st.composite
def clouds(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(0, 5))
    found = {"points": draw(of_numpy.arrays(draw(PLACES), (count, 3)))}
    if draw(st.booleans()):
        found["colors"] = draw(of_numpy.arrays(draw(COLOURS), (count, draw(st.sampled_from([3, 4])) if count else 3)))
    return found


def _are_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        (one[name].dtype, one[name].shape, one[name].tobytes())
        == (other[name].dtype, other[name].shape, other[name].tobytes())
        for name in one
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(meshes(), min_size=1, max_size=3))
def test_meshes_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    for series in series_of(tmp_path_factory.mktemp("run"), "mesh", values):
        assert series.kind == "mesh"
        assert all(_are_alike(shown, value) for shown, value in zip(series.value, values, strict=True))


@settings(max_examples=10, deadline=None)
@given(st.lists(clouds(), min_size=1, max_size=3))
def test_point_clouds_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    for series in series_of(tmp_path_factory.mktemp("run"), "point_cloud", values):
        assert series.kind == "point_cloud"
        assert all(_are_alike(shown, value) for shown, value in zip(series.value, values, strict=True))


def test_meshes_of_all_sizes_share_a_few_datasets(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        for size in range(1, 40):
            root.log({"vertices": np.ones((size, 3)), "faces": np.zeros((2, 3), int)}, "mesh", data_type="mesh")

    assert len([name for name in allogger.api.hdf.list_keys(tmp_path) if name.startswith("mesh/")]) < 10
    assert [len(mesh["vertices"]) for mesh in allogger.open_run(tmp_path)["root/mesh"].value] == list(range(1, 40))


@pytest.mark.parametrize("width", [3, 6, 7])
def test_colours_may_stand_behind_the_places(width: int) -> None:
    rows = torch.arange(2.0 * width).reshape(2, width)

    shown = PointCloudKind().decode(*PointCloudKind().encode(rows))

    np.testing.assert_array_equal(np.hstack(list(shown.values())), rows)
    assert shown["points"].shape == (2, 3)


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("mesh", np.zeros((3, 3)), "a mesh is"),
        ("mesh", {"vertices": np.zeros((3, 3))}, "'faces'"),
        ("mesh", {**SQUARE, "normals": 0}, "'face_colors'"),
        ("mesh", {**SQUARE, "vertices": np.zeros((4, 2))}, "vertices of a mesh"),
        ("mesh", {**SQUARE, "vertices": np.zeros((3, 3))}, "from vertex 0 to 3, of 3"),
        ("mesh", {**SQUARE, "faces": [[0, 1, -1]]}, "from vertex -1"),
        ("mesh", {**SQUARE, "faces": [[0, 1, 2, 3]]}, "triangles"),
        ("mesh", {**SQUARE, "faces": [[0.0, 1.0, 2.0]]}, "triangles"),
        ("mesh", {**SQUARE, "colors": np.zeros((3, 3))}, "colours"),
        ("mesh", {**SQUARE, "face_colors": np.zeros((2, 2))}, "colours"),
        ("point_cloud", np.zeros((3, 4)), "shape"),
        ("point_cloud", {"vertices": np.zeros((3, 3))}, "'points'"),
        ("point_cloud", {"points": np.zeros((3, 3)), "colors": np.zeros((2, 3))}, "colours"),
        ("point_cloud", {"points": [["a", "b", "c"]]}, "real numbers"),
        ("point_cloud", 3, "shape"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_shape_is_refused(kind: str, value: Any, why: str) -> None:
    with pytest.raises(Unstorable, match=why):
        (MeshKind() if kind == "mesh" else PointCloudKind()).encode(value)


# -------------------------------------------------------------------------------------------------------- of libraries


def test_meshes_of_trimesh_are_known_and_keep_their_colours(tmp_path: Path) -> None:
    plain, painted, faces = (trimesh.creation.box() for _ in range(3))
    painted.visual.vertex_colors = np.arange(32, dtype=np.uint8).reshape(8, 4)
    faces.visual.face_colors = np.arange(48, dtype=np.uint8).reshape(12, 4)
    textured = trimesh.creation.box()
    picture = Image.new("RGB", (4, 4), (10, 20, 30))
    textured.visual = trimesh.visual.TextureVisuals(uv=np.full((8, 2), 0.5), image=picture)
    cloud = trimesh.PointCloud(np.eye(3), colors=np.full((3, 4), 9, np.uint8))
    with allogger.run(tmp_path) as root:
        root.log(plain, "plain")
        root.log(painted, "painted")
        root.log(faces, "faces", data_type="mesh")
        root.log({"textured": textured, "cloud": cloud, "bare": trimesh.PointCloud(np.eye(3))}, "more")

    run = allogger.open_run(tmp_path)
    last = {key.rpartition("/")[2]: run[key].last for key in run}
    assert all(
        _are_alike({name: last["plain"][name]}, {name: np.array(getattr(plain, name))}) for name in last["plain"]
    )
    assert last["plain"].keys() == {"vertices", "faces"}
    np.testing.assert_array_equal(last["painted"]["colors"], painted.visual.vertex_colors, strict=True)
    np.testing.assert_array_equal(last["faces"]["face_colors"], faces.visual.face_colors, strict=True)
    assert last["textured"]["colors"][:, :3].tolist() == [[10, 20, 30]] * 8
    np.testing.assert_array_equal(last["cloud"]["colors"], cloud.colors, strict=True)
    assert last["bare"].keys() == {"points"}
    assert {run.kinds[key] for key in run} == {"mesh", "point_cloud"}


def _of_open3d(name: str, **arrays: Any) -> Any:
    """Return an object with the attributes that one of open3d has: buffers that numpy takes."""

    class Vector:
        def __init__(self, values: Any) -> None:
            self.values = np.asarray(values, float).reshape(-1, 3)

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return self.values

    attributes = {key: property(lambda self, key=key: Vector(arrays[key])) for key in arrays}
    return type(name, (), {**attributes, "__module__": "open3d.cpu.pybind.geometry"})()


def test_shapes_of_open3d_are_known_by_their_class_and_attributes(tmp_path: Path) -> None:
    mesh = _of_open3d("TriangleMesh", vertices=np.eye(3), triangles=[], vertex_colors=np.eye(3) / 2)
    mesh_type = type(mesh)
    mesh_type.triangles = property(lambda self: np.array([[0, 1, 2]], np.int32))
    bare = _of_open3d("PointCloud", points=np.eye(3), colors=[])
    tensors = type("PointCloud", (), {"__module__": "open3d.t", "to_legacy": lambda self: bare})()
    with allogger.run(tmp_path) as root:
        root.log(mesh, "mesh")
        root.log(bare, "cloud")
        root.log(tensors, "cloud")

    run = allogger.open_run(tmp_path)
    shown = run["root/mesh"].last
    assert _are_alike(shown, {"vertices": np.eye(3), "colors": np.eye(3) / 2, "faces": np.array([[0, 1, 2]], np.int32)})
    assert [value.keys() for value in run["root/cloud"].value] == [{"points"}, {"points"}]


# ---------------------------------------------------------------------------------------------------------- TensorBoard


class _Plugin:
    """TensorBoard's own plug-in, asked as its page asks it."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            from tensorboard.plugins.mesh.mesh_plugin import MeshPlugin
        multiplexer = EventMultiplexer(tensor_size_guidance={"mesh": 0})
        multiplexer.AddRunsFromDirectory(str(folder))
        multiplexer.Reload()
        plugin = MeshPlugin(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(folder))))
        self._apps = {path: Client(app, Response) for path, app in plugin.get_plugin_apps().items()}

    def ask(self, path: str, **options: Any) -> Any:
        response = self._apps[path].get(path, query_string=options)
        assert response.status_code == 200
        return response.data

    def part(self, tag: str, step: int, part: str, dtype: str) -> Any:
        data = self.ask("/data", run="MainProcess", tag=tag, step=step, content_type=part)
        return np.frombuffer(data, dtype).reshape(-1, 3)


def test_tensorboard_shows_meshes_and_point_clouds(tmp_path: Path) -> None:
    painted = {**SQUARE, "colors": np.arange(16).reshape(4, 4) / 16}
    by_face = {**SQUARE, "face_colors": np.array([[1, 2, 3], [4, 5, 6]], np.uint8)}
    with allogger.run(tmp_path, ["tensorboard"]) as root:
        root.log(SQUARE, "mesh", data_type="mesh")
        root.log(painted, "mesh", data_type="mesh")
        root.log(by_face, "faces", data_type="mesh")
        root.log(np.array([[0, 1, 2, 255.0, 0, 300], [3, 4, 5, 0, 128, 1]]), "cloud", data_type="point_cloud")
        root.log(np.empty((0, 3)), "cloud", data_type="point_cloud")

    plugin = _Plugin(tmp_path / "events")
    assert json.loads(plugin.ask("/tags")) == {
        "MainProcess": {f"root/{key}": {"samples": 1} for key in ("mesh", "faces", "cloud")}
    }
    parts = json.loads(plugin.ask("/meshes", run="MainProcess", tag="root/mesh"))
    assert sorted((part["step"], part["content_type"], part["data_shape"]) for part in parts) == [
        (1, 1, [1, 4, 3]),
        (1, 2, [1, 2, 3]),
        (2, 1, [1, 4, 3]),
        (2, 2, [1, 2, 3]),
        (2, 3, [1, 4, 3]),
    ]
    np.testing.assert_array_equal(plugin.part("root/mesh", 2, "VERTEX", "<f4"), SQUARE["vertices"])
    np.testing.assert_array_equal(plugin.part("root/mesh", 2, "FACE", "<i4"), SQUARE["faces"])
    assert plugin.part("root/mesh", 2, "COLOR", "u1")[1].tolist() == [64, 80, 96]
    corners = plugin.part("root/faces", 1, "VERTEX", "<f4")[plugin.part("root/faces", 1, "FACE", "<i4")]
    np.testing.assert_array_equal(corners, SQUARE["vertices"][SQUARE["faces"]])
    assert plugin.part("root/faces", 1, "COLOR", "u1").tolist() == [[1, 2, 3]] * 3 + [[4, 5, 6]] * 3
    assert plugin.part("root/cloud", 1, "COLOR", "u1").tolist() == [[255, 0, 255], [0, 128, 1]]
    assert len(allogger.open_run(tmp_path)["root/cloud"]) == 2


def test_colours_that_are_not_known_are_black_without_a_warning(tmp_path: Path) -> None:
    colors = np.full((4, 3), np.nan)
    with allogger.run(tmp_path, ["tensorboard"]) as root, warnings.catch_warnings(action="error"):
        root.log({**SQUARE, "colors": colors}, "mesh", data_type="mesh")
        allogger.flush()

    assert _Plugin(tmp_path / "events").part("root/mesh", 1, "COLOR", "u1").tolist() == [[0, 0, 0]] * 4


def test_a_later_attempt_replaces_all_parts_of_a_mesh_in_tensorboard(tmp_path: Path) -> None:
    painted = {**SQUARE, "colors": np.zeros((4, 3))}
    for count, mesh in ((3, painted), (1, SQUARE)):
        with allogger.run(tmp_path, ["tensorboard"]) as root:
            root.load_state_dict({"step_per_key": {}})
            for step in range(count):
                root.log(mesh, "mesh", step=step, data_type="mesh")

    parts = json.loads(_Plugin(tmp_path / "events").ask("/meshes", run="MainProcess", tag="root/mesh"))
    assert sorted((part["step"], part["content_type"]) for part in parts) == [(0, 1), (0, 2)]


# ---------------------------------------------------------------------------------------------------------------- files


@settings(max_examples=25, deadline=None)
@given(meshes(), st.sampled_from(["f4", "f8"]))
def test_other_programs_read_the_files_of_meshes(
    tmp_path_factory: pytest.TempPathFactory, mesh: dict[str, Any], dtype: str
) -> None:
    from allogger.saving import file_of

    mesh["vertices"] = np.arange(mesh["vertices"].size).reshape(-1, 3).astype(dtype) / 3
    path = tmp_path_factory.mktemp("ply") / "mesh.ply"
    suffix, data = file_of("mesh", mesh, {})
    path.write_bytes(data)
    if not len(mesh["faces"]):
        return  # trimesh takes it for a point cloud

    read = trimesh.load(path, process=False)

    assert suffix == "ply"
    np.testing.assert_array_equal(read.vertices, mesh["vertices"])
    np.testing.assert_array_equal(read.faces, mesh["faces"])
    if "colors" in mesh and mesh["colors"].dtype == np.uint8:
        width = mesh["colors"].shape[1]
        np.testing.assert_array_equal(read.visual.vertex_colors[:, :width], mesh["colors"])


def test_files_have_names_of_their_own_and_keep_colours(tmp_path: Path) -> None:
    colors = np.arange(9, dtype=np.uint8).reshape(3, 3)
    with allogger.run(tmp_path / "run") as root:
        for step in (7, 7):
            root.log({"points": np.eye(3), "colors": colors}, "view/../cloud", step=step, data_type="point_cloud")
        root.log({**SQUARE, "face_colors": colors[:2]}, "mesh", data_type="mesh")

    run = allogger.open_run(tmp_path / "run")
    paths = [path for key in run for path in run.media(key).save(tmp_path / "out")]
    assert [str(path.relative_to(tmp_path / "out")) for path in paths] == [
        "root/mesh-1-0.ply",
        "root/view/%2E%2E/cloud-7-0.ply",
        "root/view/%2E%2E/cloud-7-1.ply",
    ]
    assert trimesh.load(paths[0], process=False).visual.face_colors[:, :3].tolist() == colors[:2].tolist()
    assert trimesh.load(paths[2]).colors[:, :3].tolist() == colors.tolist()
    with pytest.raises(FileExistsError):
        run.media("root/mesh").save(tmp_path / "out")
