from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allogger.errors import DamagedFile
from allogger.formats.tfevents import bytes_field, int_field
from allogger.reader import SeriesId
from allogger.readers.wandb import WandbReader

HEADER = b":W&B\xe1\xbe\x00"
BLOCK = 2**15


def item(key: str, value: Any, nested: bool = True) -> bytes:
    return bytes_field(1, bytes_field(2 if nested else 1, key.encode()) + bytes_field(16, json.dumps(value).encode()))


def history(step: int, **values: Any) -> bytes:
    items = b"".join(item(key, value) for key, value in values.items())
    return bytes_field(2, items + bytes_field(2, int_field(1, step)))


def log_of(records: list[bytes]) -> bytes:
    """Return records as LevelDB's log format puts them into blocks."""
    out = bytearray(HEADER)
    for record in records:
        kind = first = 1
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                left = BLOCK
            piece, record = record[: left - 7], record[left - 7 :]
            kind = (1 if first else 4) if not record else (2 if first else 3)
            out += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
            first = 0
            if not record:
                break
    return bytes(out)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "run-abc.wandb"
    path.write_bytes(data)
    return path


def test_numbers_and_texts_of_the_history_are_series(tmp_path: Path) -> None:
    rows = [history(n, loss=1 / (n + 1), note=f"n{n}", ok=n % 2 == 0, _timestamp=1.7e9 + n) for n in range(2000)]
    config = bytes_field(17, bytes_field(4, item("lr", 0.1, nested=False) + item("_wandb", {}, nested=False)))
    reader = WandbReader(written(tmp_path, log_of([config, *rows, history(5000, big=2**60, nan=float("nan"))])))
    loss = reader.read(SeriesId("scalar", "root", "loss"))
    assert loss.step.tolist() == list(range(2000))
    assert loss.value.tolist() == [1 / (n + 1) for n in range(2000)]
    assert loss.time.tolist() == [1.7e9 + n for n in range(2000)]
    assert reader.read(SeriesId("text", "root", "note")).value[3] == "n3"
    assert reader.read(SeriesId("scalar", "root", "ok")).value.dtype == bool
    assert reader.read(SeriesId("scalar", "root", "big")).value.tolist() == [2**60]
    assert np.isnan(reader.read(SeriesId("scalar", "root", "nan")).value).all()
    assert reader.params == {"lr": 0.1}
    assert not reader.damage


def test_what_is_no_number_or_text_is_told(tmp_path: Path) -> None:
    reader = WandbReader(written(tmp_path, log_of([history(1, h=[1, 2])])))
    assert reader.keys() == []
    assert "'h'" in reader.damage[0]


def test_a_torn_end_is_not_there_yet(tmp_path: Path) -> None:
    data = log_of([history(n, loss=n) for n in range(3)])
    for cut in range(len(HEADER), len(data)):
        reader = WandbReader(written(tmp_path, data[:cut]))
        assert all(reader.read(s).step.tolist() in ([0], [0, 1]) for s in reader.keys())  # noqa: SIM118
        assert not reader.damage


def test_a_changed_byte_costs_its_block_and_is_told(tmp_path: Path) -> None:
    data = bytearray(log_of([history(n, loss=n) for n in range(5000)]))
    data[40_000] ^= 1
    reader = WandbReader(written(tmp_path, bytes(data)))
    got = reader.read(SeriesId("scalar", "root", "loss")).step.tolist()
    assert 3000 < len(got) < 5000
    assert got == sorted(set(got))
    assert "checksum" in reader.damage[0]


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="no file of Weights & Biases"):
        WandbReader(written(tmp_path, b"something else"))


def test_a_run_that_wandb_itself_recorded_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="needs wandb to record a run")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(
        project="p",
        mode="offline",
        dir=str(tmp_path),
        config={"lr": 0.1, "net": {"width": 3}},
        settings=wandb.Settings(x_disable_stats=True, console="off", disable_git=True, save_code=False),
    )
    for n in range(300):
        run.log({"loss": 1 / (n + 1), "train/acc": n, "n": {"a": 2 * n}, "nan": float("nan")})
    run.finish()
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    reader = WandbReader(path)
    assert reader.read(SeriesId("scalar", "root", "loss")).value.tolist() == [1 / (n + 1) for n in range(300)]
    assert reader.read(SeriesId("scalar", "root", "n/a")).step.tolist() == list(range(300))
    assert reader.params == {"lr": 0.1, "net": {"width": 3}}
