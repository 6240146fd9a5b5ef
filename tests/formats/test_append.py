from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.formats.append import AppendFile


@contextlib.contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size* bytes; the kernel takes what fits and refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def broken_disk_with_room_for(size: int) -> Iterator[None]:
    """Besides, let nothing be cut off a file."""

    def refuse(fd: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with disk_with_room_for(size), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logdir" / "events" / "a.bin"


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_made_before_the_first_write_nor_by_an_empty_one(path: Path) -> None:
    file = AppendFile(path, lambda: b"head")
    file.write(b"")
    file.write([])
    file.write([b"", b""])
    file.sync()
    file.close()
    assert not path.parent.exists()
    assert file.size == 0


def test_the_preamble_begins_the_file_once(path: Path) -> None:
    file = AppendFile(path, lambda: b"head ")
    file.write(b"one ")
    file.write([b"two ", bytearray(b"three "), memoryview(b"four")])
    assert path.read_bytes() == b"head one two three four"
    assert file.size == path.stat().st_size


def test_another_object_goes_on_behind_what_is_there(path: Path) -> None:
    for data in (b"one ", b"two"):
        file = AppendFile(path, lambda: b"head ")
        file.write(data)
        file.close()
    assert path.read_bytes() == b"head one two"
    assert file.size == 12


@given(writes=st.lists(st.lists(st.binary(max_size=20), max_size=4), max_size=6))
def test_buffers_arrive_in_order(tmp_path_factory: pytest.TempPathFactory, writes: list[list[bytes]]) -> None:
    path = tmp_path_factory.mktemp("append") / "a.bin"
    file = AppendFile(path)
    for buffers in writes:
        file.write(buffers)
    file.close()
    expected = b"".join(map(b"".join, writes))
    assert (path.read_bytes() if path.exists() else b"") == expected
    assert file.size == len(expected)


def test_more_buffers_than_one_system_call_takes_are_written(path: Path) -> None:
    file = AppendFile(path)
    file.write([b"%05d" % n for n in range(3000)])
    assert path.read_bytes() == b"".join(b"%05d" % n for n in range(3000))


@pytest.mark.parametrize("parts", [b"x" * 60, [b"x" * 30, b"y" * 30], [b"x"] * 2000], ids=["one", "two", "many"])
@pytest.mark.parametrize("room", [40, 20, 21, 60], ids=["in the middle", "nothing fits", "one byte", "most"])
def test_a_full_disk_takes_all_or_nothing(path: Path, parts: bytes | list[bytes], room: int) -> None:
    file = AppendFile(path, lambda: b"head" * 5)
    file.write(b".")
    with disk_with_room_for(room + 1), pytest.raises(OSError, match="File too large"):
        file.write(parts)
    assert path.read_bytes() == b"head" * 5 + b"."
    assert file.size == 21
    file.write(parts)
    assert path.read_bytes() == b"head" * 5 + b"." + b"".join([parts] if isinstance(parts, bytes) else parts)


def test_a_system_that_takes_a_few_bytes_at_a_time_gets_them_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_three(fd: int, data: memoryview, write: Callable[[int, memoryview], int] = os.write) -> int:
        return write(fd, data[:3])

    monkeypatch.setattr(os, "write", write_three)
    monkeypatch.setattr(os, "writev", lambda fd, parts: write_three(fd, memoryview(parts[0])))
    file = AppendFile(path, lambda: b"head ")
    file.write([b"0123456789", b"abc"])
    assert path.read_bytes() == b"head 0123456789abc"
    assert file.size == 18


def test_the_preamble_comes_again_when_its_write_failed(path: Path) -> None:
    file = AppendFile(path, lambda: b"head ")
    with disk_with_room_for(7), pytest.raises(OSError, match="File too large"):
        file.write(b"data")
    assert path.read_bytes() == b""
    file.write(b"data")
    assert path.read_bytes() == b"head data"


def test_a_torn_write_that_cannot_be_cut_is_cut_before_the_next(path: Path) -> None:
    file = AppendFile(path)
    file.write(b"good.")
    with broken_disk_with_room_for(8):
        with pytest.raises(OSError, match="File too large"):
            file.write(b"torn write")
        assert path.read_bytes() == b"good.tor"
        # As long as it cannot be cut, nothing may come behind it.
        with pytest.raises(OSError, match="Input/output"):
            file.write(b"x")
    file.write(b"next.")
    assert path.read_bytes() == b"good.next."
    file.close()


def test_close_cuts_a_torn_write_and_makes_no_file(path: Path) -> None:
    file = AppendFile(path)
    file.write(b"good.")
    for _ in range(2):
        with broken_disk_with_room_for(8), pytest.raises(OSError, match="File too large"):
            file.write(b"torn write")
        file.close()
        assert path.read_bytes() == b"good."
    with broken_disk_with_room_for(8), pytest.raises(OSError, match="File too large"):
        file.write(b"torn write")
    path.unlink()
    file.close()
    assert not path.exists()


def test_a_torn_write_in_a_file_that_was_replaced_does_not_cut_the_new_one(path: Path) -> None:
    file = AppendFile(path)
    with broken_disk_with_room_for(3), pytest.raises(OSError, match="File too large"):
        file.write(b"torn write")
    other = path.with_name("other")
    other.write_bytes(b"somebody else's ")
    other.replace(path)
    file.close()
    assert path.read_bytes() == b"somebody else's "
    file.write(b"ours")
    assert path.read_bytes() == b"somebody else's ours"


def test_a_device_that_is_always_full_raises_each_time() -> None:
    file = AppendFile(Path("/dev/full"))
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            file.write([b"a", b"b"])
    file.close()
    assert file.size == 0


@pytest.mark.parametrize("how", ["file unlinked", "folder removed", "folder moved away", "moved and copied back"])
def test_a_file_that_vanished_begins_anew(path: Path, how: str) -> None:
    file = AppendFile(path, lambda: b"head ")
    file.write(b"one ")
    before = open_descriptors()
    elsewhere = path.parent.with_name("elsewhere")
    expected = b"head two"
    if how == "file unlinked":
        path.unlink()
    elif how == "folder removed":
        shutil.rmtree(path.parent)
    else:
        path.parent.rename(elsewhere)
        if how == "moved and copied back":
            shutil.copytree(elsewhere, path.parent)
            expected = b"head one two"
    file.write(b"two")
    assert path.read_bytes() == expected
    assert file.size == len(expected)
    assert open_descriptors() == before
    if elsewhere.exists():
        assert (elsewhere / path.name).read_bytes() == b"head one "


def test_a_file_that_somebody_emptied_or_prolonged_stays_sound(path: Path) -> None:
    file = AppendFile(path, lambda: b"head ")
    file.write(b"one ")
    path.write_bytes(b"")
    file.write(b"two ")
    with path.open("ab") as other:
        other.write(b"theirs ")
    with disk_with_room_for(20), pytest.raises(OSError, match="File too large"):
        file.write(b"three")
    assert path.read_bytes() == b"head two theirs "


def test_a_folder_in_the_place_of_the_file_is_an_oserror(path: Path) -> None:
    file = AppendFile(path)
    path.mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        file.write(b"x")
    path.rmdir()
    file.write(b"x")
    assert path.read_bytes() == b"x"


def test_a_file_in_the_place_of_the_folder_is_an_oserror(path: Path) -> None:
    file = AppendFile(path)
    path.parent.parent.mkdir()
    path.parent.write_bytes(b"")
    with pytest.raises(FileExistsError):
        file.write(b"x")


def test_close_and_abandon_may_be_called_twice_and_leave_no_descriptor(path: Path) -> None:
    before = open_descriptors()
    for end in (AppendFile.close, AppendFile.abandon):
        file = AppendFile(path)
        file.write(b"x")
        file.sync()
        assert open_descriptors() == before + 1
        end(file)
        end(file)
        file.sync()
        assert open_descriptors() == before
    assert path.read_bytes() == b"xx"


def test_the_descriptor_is_not_inherited_by_programs(path: Path) -> None:
    file = AppendFile(path)
    file.write(b"x")
    (fd,) = (int(fd) for fd in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{fd}") == str(path))
    assert not os.get_inheritable(fd)
    file.close()


def test_a_bytearray_can_be_resized_after_a_failed_write(path: Path) -> None:
    file = AppendFile(path)
    data = bytearray(b"0123456789")
    with disk_with_room_for(3), pytest.raises(OSError, match="File too large") as failure:
        file.write(data)
    data += b"more"
    assert failure.value.errno == errno.EFBIG
