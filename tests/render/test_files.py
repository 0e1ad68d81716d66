"""Writing files: whole or not at all, through links, and into what is no file."""

import os
import stat
import threading
from pathlib import Path

import pytest

from simgpu import InputError
from simgpu.render import files
from simgpu.render.files import written_whole


def write(file, text="new"):
    with written_whole(Path(file)) as stream:
        stream.write(text)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names():
    return sorted(path.name for path in Path().iterdir())


def test_a_file_that_fails_midway_stays_as_it_was():
    Path("a").write_text("old")
    with pytest.raises(KeyError), written_whole(Path("a")) as stream:
        stream.write("half")
        raise KeyError
    assert Path("a").read_text() == "old" and names() == ["a"]


def test_links_are_followed_and_stay():
    Path("folder").mkdir()
    Path("folder/a").write_text("old")
    Path("link").symlink_to("folder/a")
    Path("chain").symlink_to("link")
    Path("ahead").symlink_to("folder/later")
    for name in ("chain", "ahead"):
        write(name)
        assert Path(name).is_symlink() and Path(name).read_text() == "new"
    assert Path("folder/a").read_text() == Path("folder/later").read_text() == "new"
    Path("round").symlink_to("round")
    with pytest.raises(InputError, match="round: cannot be written"):
        write("round")
    assert Path("round").is_symlink()


def test_permissions_stay():
    Path("mine").write_text("old")
    Path("mine").chmod(0o600)
    write("mine")
    assert stat.S_IMODE(Path("mine").stat().st_mode) == 0o600 and Path("mine").read_text() == "new"
    write("fresh")
    Path("plain").write_text("")
    assert Path("fresh").stat().st_mode == Path("plain").stat().st_mode


def test_what_may_not_be_written_is_not_replaced(monkeypatch):
    Path("theirs").write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may always
    with pytest.raises(InputError, match=r"theirs: cannot be written \(Permission denied\)"):
        write("theirs")
    assert Path("theirs").read_text() == "old" and names() == ["theirs"]


def test_a_name_as_long_as_the_system_allows():
    write("x" * 255)
    assert names() == ["x" * 255]


def test_a_folder_is_refused():
    Path("folder").mkdir()
    with pytest.raises(InputError, match=r"folder: cannot be written \(it is a folder, expected a file\)"):
        write("folder")
    assert names() == ["folder"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("binary", [False, True])
def test_a_pipe_is_written_into(binary):
    os.mkfifo("pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append(Path("pipe").read_bytes()))
    reader.start()
    with written_whole(Path("pipe"), binary) as stream:
        stream.write(b"new\n" if binary else "new\n")
        assert stream.seekable(), "pictures are written to and fro"
    reader.join()
    assert found == [b"new\n"] and stat.S_ISFIFO(Path("pipe").stat().st_mode)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_that_nobody_reads_is_told(monkeypatch):
    monkeypatch.setattr(files, "READER_SECONDS", 0.1)
    os.mkfifo("pipe")
    with pytest.raises(InputError, match=r"pipe: cannot be written \(a pipe that nobody reads"):
        write("pipe")


def test_a_device_is_written_into_and_never_replaced(monkeypatch):
    """A terminal stands for the devices, for which tests would have to be root."""
    replaced = []
    monkeypatch.setattr(Path, "replace", lambda *paths: replaced.append(paths))
    main, terminal = os.openpty()
    write(os.ttyname(terminal), "new")
    assert os.read(main, 100) == b"new" and not replaced
    for handle in (main, terminal):
        os.close(handle)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: pytest.fail("a device would have been replaced"))
    with pytest.raises(InputError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        write("/dev/full")
