"""Files are whole or not there, links stay links, and errors name what was to be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqfast.embeddings import files


def written(path: Path) -> None:
    with files.atomic_file(path) as file:
        file.write(b"x")


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(0o640)
    with pytest.raises(RuntimeError, match="stop"), files.atomic_file(path) as file:  # noqa: PT012
        file.write(b"after" * 100_000)
        assert path.read_bytes() == b"before"
        raise RuntimeError("stop")
    assert path.read_bytes() == b"before"
    with files.atomic_file(path) as file:
        file.write(b"after")
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    with files.atomic_file(tmp_path / "link") as file:
        file.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"x"


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for name in (".a[1].xyz.partial", ".a[1].partial", ".other.xyz.partial", "a[1].partial"):
        (tmp_path / name).touch()
    files.remove_partial(tmp_path / "a[1]")
    left = {".a[1].partial", ".other.xyz.partial", "a[1].partial"}
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/stdout")
def test_what_is_no_file_is_written_directly() -> None:
    code = (
        "from seqfast.embeddings import files\n"
        "files.check_writable('/dev/stdout')\n"
        "with files.atomic_file('/dev/stdout') as file: file.write(b'x')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"x"


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    with files.atomic_file(tmp_path / "file") as file:
        file.write(b"x")
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_writable_is_found_out(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        files.check_writable(tmp_path / "absent" / "file")
    with pytest.raises(IsADirectoryError):
        files.check_writable(tmp_path)
    if os.path.exists("/dev/null"):
        files.check_writable("/dev/null")


def test_partial_files_of_others_stay(tmp_path: Path) -> None:
    long = "x" * 200
    targets = [
        tmp_path / name for name in ("model", "model.v2", long + "1", long + "2", "\u00e9" * 120)
    ]
    for target in targets:
        with files.atomic_file(target) as file:
            for other in targets:
                if other != target:
                    files.remove_partial(other)
            file.write(b"x")
    assert set(tmp_path.iterdir()) == set(targets)
    for target in targets:
        descriptor, name = files._partial_file(target)
        os.close(descriptor)
        files.remove_partial(target)
        assert not os.path.exists(name)


def test_errors_name_what_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent" / "file"
    for write in (files.check_writable, written):
        with pytest.raises(FileNotFoundError) as caught:
            write(absent)
        assert caught.value.filename == str(absent)
    path = tmp_path / "file"
    # What the block raises about another file is left as it is.
    with pytest.raises(FileNotFoundError) as caught, files.atomic_file(path):
        (tmp_path / "other").read_bytes()
    assert caught.value.filename == str(tmp_path / "other")
    with pytest.raises(OSError, match="no number"), files.atomic_file(path):
        raise OSError("no number")
    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left") as full, files.atomic_file(path):
        pass
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_packed_files_are_read_again(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    with files.atomic_packed_file(path) as file:
        file.write(b"words" * 1000)
    assert (path.stat().st_size < 1000) == bool(suffix)
    with files.open_by_suffix(path) as packed:
        assert packed.read() == b"words" * 1000
