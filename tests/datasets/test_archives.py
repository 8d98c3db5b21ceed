"""Archives are sources like folders, read member by member, and refused where they are hostile."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, LinesideError, NotFoundError
from lineside.datasets import load_source
from lineside.datasets.trees import ArchiveTree

Png = Callable[[int], bytes]


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("above", ["", "data/"])
def test_an_archive_is_read_like_its_folder(
    *, make: Callable[[Path, dict[str, bytes]], Path], above: str, png: Png, tmp_path: Path
) -> None:
    members = {
        f"{above}labels.csv": b"file,label\na.png,dent\nb.png,good\n",
        f"{above}images/a.png": png(1),
        f"{above}images/b.png": png(2),
        "__MACOSX/._a.png": b"",
    }
    path = make(tmp_path / f"x.{'zip' if make is zipped else 'tar'}", members)
    found = load_source(path)
    assert [(s.name, s.labels) for s in found.samples] == [
        ("a.png", ("dent",)),
        ("b.png", ("good",)),
    ]
    assert found.read(found.samples[1]) == png(2)


def test_class_folders_in_an_archive(png: Png, tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"set/dent/1.png": png(1), "set/good/2.png": png(2)})
    found = load_source(path)
    assert [sample.name for sample in found.samples] == ["dent/1.png", "good/2.png"]


@pytest.mark.parametrize("packed", [True, False])
def test_names_are_found_in_either_spelling_and_where_a_zip_does_not_say_utf_8(
    *, png: Png, tmp_path: Path, packed: bool
) -> None:
    written = "Mu\u0308ller.png"  # macOS writes letters and their accents apart
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").write_text("file,label\nM\u00fcller.png,dent\n")
    (tmp_path / "data" / written).write_bytes(png(1))
    where = tmp_path / "data"
    if packed:
        where = tmp_path / "data.zip"
        with zipfile.ZipFile(where, "w") as archive:
            archive.write(tmp_path / "data" / "labels.csv", "labels.csv")
            archive.writestr("Mu__ller.png", png(1))
        where.write_bytes(where.read_bytes().replace(b"Mu__ller.png", written.encode()))
    assert [one.name for one in load_source(where).samples] == ["M\u00fcller.png"]


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png"])
def test_a_member_that_leads_out_refuses_the_archive(tmp_path: Path, name: str) -> None:
    for path in (zipped(tmp_path / "x.zip", {name: b""}), tarred(tmp_path / "x.tar", {name: b""})):
        with pytest.raises(InvalidError, match="leads out"):
            load_source(path)


def test_an_archive_of_many_files_or_deep_folders_is_refused_by_its_directory(
    tmp_path: Path,
) -> None:
    path = zipped(tmp_path / "x.zip", {f"{number}.png": b"" for number in range(2000)})
    for most in (2, 1999):  # its list is too long to be read; it was read
        with pytest.raises(InvalidError, match=f"more than {most:,} files"):
            ArchiveTree(path, most_files=most)
    with pytest.raises(InvalidError, match="more than 64 folders"):
        ArchiveTree(tarred(tmp_path / "x.tar", {"a/" * 65 + "a.png": b""}))


def test_links_and_devices_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"a{kind!r}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert list(ArchiveTree(tmp_path / "x.tar").files()) == []


def test_a_member_is_refused_by_its_length_declared_or_real(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"bomb.png": bytes(10**6)})
    tree = ArchiveTree(path)
    with pytest.raises(InvalidError, match="1000000 bytes, at most 1000"):
        tree.read("bomb.png", most=1000)
    raw = bytearray(path.read_bytes())
    place = raw.rindex(b"PK\x01\x02")
    raw[place + 24 : place + 28] = (500).to_bytes(4, "little")
    path.write_bytes(bytes(raw))
    with pytest.raises(InvalidError, match="damaged"):
        ArchiveTree(path).read("bomb.png", most=1000)
    with pytest.raises(NotFoundError):
        tree.read("none.png", most=1)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_packing_is_refused_with_the_way_out(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("a.png", b"x" * 100)
    with pytest.raises(InvalidError, match="unusual way") as caught:
        load_source(tmp_path / "x.zip")
    assert "deflated" in caught.value.fix


def test_a_packed_tar_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz"):
        pass
    with pytest.raises(InvalidError, match="not an archive") as caught:
        load_source(tmp_path / "x.tar")
    assert "plain .tar" in caught.value.fix


@given(data=st.data())
def test_mutated_archives_give_their_files_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("archive", numbered=True)
    make, name = data.draw(st.sampled_from([(zipped, "x.zip"), (tarred, "x.tar")]))
    path = make(folder / name, {"a/b.txt": b"one" * 50, "c.txt": b"two"})
    raw = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=5)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        tree = ArchiveTree(path)
        for inner in ("a", ""):
            for member in tree.files(inner):
                tree.read(member, most=1000)
    except LinesideError as error:
        assert error.message  # noqa: PT017  either outcome is right
