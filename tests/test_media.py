"""Media: are pictures, sounds and shapes read one by one, saved under names of their own, and exported exactly?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.cli import main
from allogger.kind import MEDIA
from allogger.saving import FORMATS, file_of
from tests.killed import everything

SQUARE = {"vertices": np.eye(4, 3), "faces": np.array([[0, 1, 2], [1, 2, 3]]), "colors": np.ones((4, 3))}
VALUES: dict[str, Any] = {
    "image": np.zeros((4, 5, 3), np.uint8),
    "figure": {"data": [{"type": "scatter", "y": [1, 2]}]},
    "video": {"frames": np.zeros((2, 4, 5), np.uint8), "fps": 5},
    "audio": (np.arange(4, dtype=np.int16), 8000),
    "mesh": SQUARE,
    "point_cloud": np.eye(3),
}
SUFFIXES = {"image": "png", "figure": "html", "video": "webp", "audio": "wav", "mesh": "ply", "point_cloud": "ply"}


@pytest.fixture
def run(tmp_path: Path) -> allogger.Run:
    with allogger.run(tmp_path / "run") as root:
        for kind, value in VALUES.items():
            root.log(value, kind, step=7, data_type=kind)
            root.log(value, kind, step=7, data_type=kind)
        root.log(0.5, "loss")
    return allogger.open_run(tmp_path / "run")


def test_every_kind_of_media_has_a_format() -> None:
    assert tuple(FORMATS) == MEDIA == tuple(VALUES)


def test_values_are_read_one_by_one_and_saved_under_names_of_their_own(run: allogger.Run, tmp_path: Path) -> None:
    for kind, suffix in SUFFIXES.items():
        media = run.media(f"root/{kind}")
        assert len(media) == 2
        assert media.step.tolist() == [7, 7]
        assert media.attrs(1) == run[f"root/{kind}"].meta
        np.testing.assert_equal(media[1], run[f"root/{kind}"].value[1])

        # The number stays with the value, in whichever part of the sequence it is.
        paths = [*media[:1].save(tmp_path), *media[1:].save(tmp_path)]

        assert paths == [tmp_path / "root" / f"{kind}-7-{number}.{suffix}" for number in (0, 1)]
        assert all(path.stat().st_size for path in paths)
        before = paths[0].read_bytes()
        with pytest.raises(FileExistsError):
            media.save(tmp_path)
        assert paths[0].read_bytes() == before


def test_what_is_no_picture_is_not_looked_at_as_one(run: allogger.Run) -> None:
    with pytest.raises(allogger.ConfigError, match="'root/audio' is of kind audio, not image"):
        run.images("root/audio")
    with pytest.raises(allogger.ConfigError, match="'root/loss' is of kind scalar, not image"):
        run.media("root/loss")


@pytest.mark.parametrize(
    ("kind", "format", "hint"), [("audio", "wave", "did you mean 'wav'"), ("mesh", "obj", "known: ply")]
)
def test_an_unknown_format_is_an_error_with_a_suggestion(
    run: allogger.Run, tmp_path: Path, kind: str, format: str, hint: str
) -> None:
    with pytest.raises(allogger.UnknownName, match=hint):
        run.media(f"root/{kind}").save(tmp_path, format)


@pytest.mark.parametrize(
    ("kind", "value", "attrs"),
    [
        ("audio", np.zeros(3, np.int16), {}),
        ("audio", np.zeros(3, np.int16), {"layout": "T", "rate": "fast"}),
        ("video", np.zeros((2, 2, 2)), {}),
        ("video", np.zeros((2, 2, 2)), {"layout": "THW", "fps": "fast"}),
        ("mesh", np.zeros(3), {}),
        ("mesh", {"faces": np.zeros((1, 3))}, {}),
        ("point_cloud", "text", {}),
    ],
)
def test_a_value_that_a_damaged_file_holds_is_told(kind: str, value: Any, attrs: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        file_of(kind, value, attrs)


def test_without_pillow_a_video_says_what_to_install(
    run: allogger.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)

    with pytest.raises(allogger.MissingDependency, match=r"pip install 'allogger\[images\]'"):
        run.media("root/video").save(tmp_path)


def test_a_file_that_the_disk_does_not_take_is_not_left_in_half(
    run: allogger.Run, tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    code = f"""
        import pathlib, resource, signal
        import allogger

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
        try:
            allogger.open_run({str(run.logdir)!r}).media("root/mesh").save({str(tmp_path)!r})
        except OSError as error:
            print(error)
    """

    done = run_python(code)

    assert "File too large" in done.stdout, done.stderr
    assert not list(tmp_path.rglob("*.ply"))


def test_the_command_line_lists_and_writes_all_of_them(
    run: allogger.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logdir, out = str(run.logdir), str(tmp_path / "out")

    assert main(["images", logdir, "-n", "1", "--json"]) == 0
    rows = {row["kind"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == VALUES.keys()
    assert (rows["mesh"]["shape"], rows["mesh"]["dtype"]) == ([4, 3], "float64")
    assert main(["images", logdir, "-n", "1", "-o", out, "--json"]) == 0
    written = [Path(row["file"]) for row in json.loads(capsys.readouterr().out)]
    assert sorted(path.name for path in written) == sorted(f"{kind}-7-1.{suffix}" for kind, suffix in SUFFIXES.items())
    assert main(["images", logdir, "-k", "video", "--format", "gif", "-o", out]) == 0
    capsys.readouterr()
    assert main(["images", logdir, "-k", "audio", "--format", "mp3", "-o", out]) == 1
    assert "known: wav" in capsys.readouterr().err
    for command in ("keys", "show", "stats", "verify"):
        assert main([command, logdir]) == 0
        assert "root/mesh" in capsys.readouterr().out or command == "verify"
    assert "point_cloud" in run._repr_html_()
    assert "vertices" in run["root/mesh"]._repr_html_()


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl", "all.npz", "all.h5", "all.parquet", "events"])
def test_all_of_them_are_exported(
    run: allogger.Run, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = run.export(tmp_path / name, "tensorboard" if name == "events" else None)

    assert path.exists()
    if name == "events":
        assert "does not hold everything: 2 values of 'root/figure'" in caplog.text
        assert "'root/mesh'" not in caplog.text
        reader = EventAccumulator(str(path / "MainProcess"), {"tensors": 0, "audio": 0}).Reload()
        assert len(reader.Tensors("root/mesh_VERTEX")) == len(reader.Audio("root/audio")) == 2
    else:
        assert not caplog.messages
    if name == "all.h5":
        exported = allogger.open_run(path)
        for kind in VALUES:
            np.testing.assert_equal(exported[f"root/{kind}"].value[1], run[f"root/{kind}"].value[1])
            assert exported[f"root/{kind}"].meta == run[f"root/{kind}"].meta


def test_each_value_is_exported_with_its_own_attributes(tmp_path: Path) -> None:
    sounds = [(np.arange(6, dtype=np.int16).reshape(3, 2) + rate, rate) for rate in (1, 2, 3)]
    sounds[1] = (sounds[1][0].T, 2)
    with allogger.run(tmp_path / "run") as root:
        for sound in sounds:
            root.log(sound, "sound", data_type="audio")
    run = allogger.open_run(tmp_path / "run")
    before = [run.media("root/sound").attrs(number) for number in range(3)]
    assert before == [{"layout": layout, "rate": rate} for layout, rate in (("TC", 1), ("CT", 2), ("TC", 3))]

    exported = allogger.open_run(run.export(tmp_path / "out.h5"))
    events = run.export(tmp_path / "events", "tensorboard")
    lines = [json.loads(line) for line in run.export(tmp_path / "out.jsonl").read_text().splitlines()]

    assert [line["meta"] for line in lines] == before
    media = exported.media("root/sound")
    assert [media.attrs(number) for number in range(3)] == before
    np.testing.assert_equal(list(media), [samples for samples, _ in sounds])
    heard = EventAccumulator(str(events / "MainProcess"), {"audio": 0}).Reload().Audio("root/sound")
    assert [(event.sample_rate, event.length_frames) for event in heard] == [(1, 3), (2, 3), (3, 3)]


def test_media_among_other_values_of_a_key_stay_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = [{"samples": np.zeros(4, np.int16), "rate": rate} for rate in (8000, 9000)]
    orders: dict[str, list[tuple[Any, str | None]]] = {
        "behind": [(0.5, None), ("text", None), *((sound, "audio") for sound in sounds)],
        "among": [
            (sounds[0], "audio"),
            (0.5, None),
            (VALUES["figure"], "figure"),
            (sounds[1], "audio"),
            (SQUARE, "mesh"),
        ],
        "none": [(0.5, None), ("text", None)],
    }
    with allogger.run(tmp_path / "run") as root:
        for key, values in orders.items():
            for value, kind in values:
                root.log(value, key, data_type=kind)
        # Of this key all values together are sorted by their steps, but the sounds alone are not.
        for step, value, kind in ((4, sounds[0], "audio"), (3, 0.5, None), (2, sounds[1], "audio")):
            root.log(value, "back", step, data_type=kind)
    run = allogger.open_run(tmp_path / "run")

    exported = allogger.open_run(run.export(tmp_path / "out.h5"))

    for key, values in orders.items():
        wanted = [(step, kind) for step, (_, kind) in enumerate(values, 1) if kind]
        np.testing.assert_equal(list(exported[f"root/{key}"].value), list(run[f"root/{key}"].value))
        for one in (run, exported) if wanted else ():
            media = one.media(f"root/{key}")
            assert [(step, media.kind(at)) for at, step in enumerate(media.step.tolist())] == wanted
            assert [rate for at in range(len(media)) if (rate := media.attrs(at).get("rate"))] == [8000, 9000]
    back = exported.media("root/back")
    assert {(int(back.step[at]), back.attrs(at)["rate"]) for at in range(2)} == {(4, 8000), (2, 9000)}
    assert main(["images", str(tmp_path / "run"), "-k", "behind|among", "-o", str(tmp_path / "files"), "--json"]) == 0
    names = [Path(row["file"]).name for row in json.loads(capsys.readouterr().out)]
    assert names == [
        "among-1-0.wav",
        "among-3-1.html",
        "among-4-2.wav",
        "among-5-3.ply",
        "behind-3-0.wav",
        "behind-4-1.wav",
    ]
    assert main(["images", str(tmp_path / "run"), "-k", "none"]) == 3
    assert "no images" in capsys.readouterr().err


def test_a_later_attempt_replaces_media_from_the_step_on_at_which_it_began_with_another_kind(tmp_path: Path) -> None:
    for values in ([(VALUES["image"], 1), (VALUES["image"], 3)], [(0.5, 2), (VALUES["image"], 5)]):
        with allogger.run(tmp_path) as root:
            for value, step in values:
                root.log(value, "key", step)

    run = allogger.open_run(tmp_path)

    assert run["root/key"].step.tolist() == [1, 2, 5]
    assert run.media("root/key").step.tolist() == [1, 5]
    assert allogger.open_run(tmp_path, attempts="all").media("root/key").step.tolist() == [1, 3, 5]


def test_what_only_tensorboard_has_is_read_back_as_far_as_it_goes(tmp_path: Path) -> None:
    with allogger.run(tmp_path, ["tensorboard"], tensorboard_writer_params={"use_hdf_hook": False}) as root:
        for kind, value in VALUES.items():
            root.log(value, kind, data_type=kind)

    run = allogger.open_run(tmp_path)

    assert not run.damage
    assert run["root/audio"].kind == "audio"
    assert (run["root/audio"].value.tolist(), run["root/audio"].meta["rate"]) == ([[0, 1, 2, 3]], 8000)
    np.testing.assert_array_equal(run["root/mesh_VERTEX"].value[0, 0], SQUARE["vertices"])
    assert run.kinds["root/video"] == "image"


def test_all_of_them_survive_a_merge(run: allogger.Run, tmp_path: Path) -> None:
    assert main(["merge", str(run.logdir), "-o", str(tmp_path / "merged")]) == 0

    merged = allogger.open_run(tmp_path / "merged")
    for kind in VALUES:
        np.testing.assert_equal(merged[f"root/{kind}"].value[0], run[f"root/{kind}"].value[0])
    assert everything(tmp_path / "merged").keys() == everything(run.logdir).keys()


def test_an_output_that_does_not_take_a_kind_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "allogger")
    with allogger.run(tmp_path, ["hdf", "csv", "console"]) as root:
        for kind in ("mesh", "audio"):
            for number in range(3):
                root.log(VALUES[kind], f"{kind}{number}", data_type=kind)

    said = [text for text in caplog.messages if "takes no values of the kind" in text]
    assert len(said) == len(set(said)) == 4
    assert sum("'csv'" in text for text in said) == sum("'console'" in text for text in said) == 2
    assert "not stored" not in caplog.text
