"""The archive: the same bytes every time, and nothing hostile comes in."""

import io
import math
import stat
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import (
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    digest_of,
    encode,
)
from lineside.models import Manifest, Metric, Package, build_package
from lineside.models import archive as archive_file
from lineside.models.archive import PackageLimits

Parts = tuple[Manifest, dict[str, bytes]]
Entries = dict[str, bytes]


def entries_of(archive: bytes) -> Entries:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(
    entries: Entries, *, compression: int = zipfile.ZIP_STORED, mode: int = stat.S_IFREG | 0o644
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content, compress_type=compression)
    return out.getvalue()


def with_digests(entries: Entries) -> Entries:
    """The entries with a digests.json that fits them."""
    files = {
        name: digest_of(each)
        for name, each in entries.items()
        if name != "digests.json" and not name.startswith("signatures/")
    }
    listed = encode({"schema": "lineside.digests/1", "files": files})
    return {**entries, "digests.json": listed}


def test_the_same_inputs_give_the_same_bytes(parts: Parts) -> None:
    manifest, files = parts
    backwards = dict(reversed(list(files.items())))
    assert build_package(manifest, files) == build_package(manifest, backwards)


def test_what_was_built_is_read_back(parts: Parts, archive: bytes) -> None:
    manifest, files = parts
    package = Package.read(archive)
    assert package.manifest == manifest
    assert {name: package.file(name) for name in files} == files
    assert package.signatures == {}


def test_the_digest_is_that_of_the_digest_list(archive: bytes) -> None:
    assert Package.read(archive).digest == digest_of(entries_of(archive)["digests.json"])


def test_a_signature_changes_the_archive_and_not_the_digest(parts: Parts, archive: bytes) -> None:
    signed = build_package(*parts, signatures={"site.sig": b"signature"})
    assert signed != archive
    package = Package.read(signed)
    assert package.digest == Package.read(archive).digest
    assert package.signatures == {"site.sig": b"signature"}


def test_another_file_or_another_figure_changes_the_digest(parts: Parts, archive: bytes) -> None:
    manifest, files = parts
    noted = build_package(manifest, {**files, "report.json": b"{}"})
    better = Metric(value=0.9, low=0.8, high=1.0, n=24, baseline=0.5)
    refigured = build_package(replace(manifest, metrics={"accuracy": better}), files)
    digests = {Package.read(each).digest for each in (archive, noted, refigured)}
    assert len(digests) == 3


def test_a_file_on_disk_is_opened(archive: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rack.lspkg"
    path.write_bytes(archive)
    assert Package.open(path).digest == Package.read(archive).digest
    with pytest.raises(NotFoundError, match="no such package"):
        Package.open(tmp_path / "other.lspkg")
    with pytest.raises(NotFoundError):
        Package.open(tmp_path)
    with pytest.raises(InvalidError, match="at most 10 are taken"):
        Package.open(path, limits=PackageLimits(max_bytes=10))


def test_a_file_that_is_not_there_is_named_with_those_that_are(archive: bytes) -> None:
    with pytest.raises(NotFoundError) as caught:
        Package.read(archive).file("weights.onnx")
    assert "network.onnx" in caught.value.fix


def test_figures_that_are_no_numbers_are_refused_when_building(parts: Parts) -> None:
    manifest, files = parts
    unknown = Metric(value=math.nan, low=0.0, high=1.0, n=0, baseline=0.5)
    with pytest.raises(InvalidError, match="a number"):
        build_package(replace(manifest, metrics={"auroc": unknown}), files)


def test_a_manifest_naming_a_file_that_is_not_there_is_refused(parts: Parts) -> None:
    manifest, files = parts
    with pytest.raises(InvalidError, match=r"the manifest names 'network\.onnx'"):
        build_package(manifest, {k: v for k, v in files.items() if k != "network.onnx"})


def test_a_manifest_with_another_digest_for_its_network_is_refused(parts: Parts) -> None:
    manifest, files = parts
    other = replace(manifest, engine=replace(manifest.engine, digest=digest_of(b"other")))
    with pytest.raises(RefusedError, match=r"network\.onnx was changed"):
        build_package(other, files)


def test_no_file_is_hashed_twice(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def note(data: bytes) -> str:
        hashed.append(data)
        return digest_of(data)

    monkeypatch.setattr(archive_file, "digest_of", note)
    Package.read(archive)
    assert len(hashed) == len(entries_of(archive))


def test_the_manifest_is_never_among_the_files(parts: Parts) -> None:
    manifest, files = parts
    for name in ("manifest.json", "digests.json"):
        with pytest.raises(InvalidError, match="are made here"):
            build_package(manifest, {**files, name: b"{}"})


def test_all_faults_of_a_manifest_are_told_at_once(parts: Parts) -> None:
    manifest, files = parts
    rules = (replace(manifest.rules[0], region="attic"), manifest.rules[1])
    broken = replace(
        manifest,
        rules=rules,
        labels=("disc",),
        reference_file="",
        prepare=replace(manifest.prepare, width_px=0, scale=0.0),
        golden=(replace(manifest.golden[0], logits=((1.0,),), matrix=((1.0,),)),),
    )
    with pytest.raises(InvalidError) as caught:
        build_package(broken, files)
    assert {fault.path for fault in caught.value.faults} == {
        "$.prepare.width_px",
        "$.prepare.scale",
        "$.rules[0].region",
        "$.labels",
        "$.golden[0].logits",
        "$.golden[0].matrix",
        "$.reference_file",
    }


def test_a_changed_file_is_refused(archive: bytes) -> None:
    for name in ("network.onnx", "manifest.json", "golden/0.jpg"):
        entries = entries_of(archive)
        entries[name] += b" "
        with pytest.raises(RefusedError, match="was changed"):
            Package.read(zipped(entries))


def test_a_file_added_or_left_out_is_refused(archive: bytes) -> None:
    entries = entries_of(archive)
    with pytest.raises(RefusedError, match="only one of"):
        Package.read(zipped({**entries, "extra.json": b"{}"}))
    del entries["golden/0.jpg"]
    with pytest.raises(RefusedError, match="only one of"):
        Package.read(zipped(entries))


BAD_NAMES = [
    "../escape.json",
    "/etc/passwd.json",
    "golden/../../x.json",
    "a\\b.json",
    "C:/x.json",
    ".hidden.json",
    "golden/",
    "a/b/c/d/e/f.json",
    "x" * 200 + ".json",
    "nul\0.json",
    "ünicode.json",
    "",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_could_leave_the_package_are_refused(name: str, archive: bytes) -> None:
    entries = {**entries_of(archive), name: b"{}"}
    with pytest.raises(LinesideError):
        Package.read(zipped(with_digests(entries)))


@pytest.mark.parametrize("name", ["run.py", "lib.so", "model.pkl", "setup.exe", "Makefile"])
def test_kinds_of_files_a_package_has_no_use_for_are_refused(name: str, archive: bytes) -> None:
    entries = {**entries_of(archive), name: b"x"}
    with pytest.raises(InvalidError, match="of a kind not taken"):
        Package.read(zipped(with_digests(entries)))


def test_a_picture_that_is_something_else_is_refused(archive: bytes) -> None:
    entries = {**entries_of(archive), "shot.png": b"MZ not a picture"}
    with pytest.raises(InvalidError, match="not the picture"):
        Package.read(zipped(with_digests(entries)))


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFIFO | 0o644])
def test_links_folders_and_pipes_are_refused(mode: int, archive: bytes) -> None:
    with pytest.raises(InvalidError, match="no regular file"):
        Package.read(zipped(entries_of(archive), mode=mode))


def test_a_bomb_is_refused_before_it_unfolds(archive: bytes) -> None:
    bomb = zipped({**entries_of(archive), "big.json": bytes(50_000_000)}, compression=8)
    assert len(bomb) < 1_000_000
    with pytest.raises(InvalidError, match="is compressed"):
        Package.read(bomb)


def test_entries_that_share_bytes_are_refused() -> None:
    """Many directory entries over one stored file: each is honest, their sum is not."""
    content = bytes(200_000)
    single = zipped({"a.json": content})
    local = single[: 30 + 6 + len(content)]
    directory = b""
    for place in range(200):
        name = f"{place:05}.json".encode()[-6:]
        directory += struct.pack(
            "<IHHHHHHIIIHHHHHII",
            *(0x02014B50, 20, 20, 0, 0, 0, 33, 0x0, len(content), len(content)),
            *(len(name), 0, 0, 0, 0, 0o100644 << 16, 0),
        )
        directory += name
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 200, 200, len(directory), len(local), 0)
    with pytest.raises(InvalidError):
        Package.read(local + directory + end)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused(archive: bytes) -> None:
    out = io.BytesIO(archive)
    with zipfile.ZipFile(out, "a") as opened:
        opened.writestr("manifest.json", b"{}")
    with pytest.raises(InvalidError, match="is there twice"):
        Package.read(out.getvalue())


def test_names_that_differ_in_case_only_are_the_same_name(archive: bytes) -> None:
    entries = {**entries_of(archive), "NETWORK.onnx": b"x"}
    with pytest.raises(InvalidError, match="is there twice"):
        Package.read(zipped(with_digests(entries)))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (PackageLimits(max_bytes=1000), "at most 1000 are taken"),
        (PackageLimits(max_files=2), "at most 2 are taken"),
        (PackageLimits(max_document_bytes=100), "more than 100 bytes"),
    ],
)
def test_limits_are_held(limits: PackageLimits, message: str, archive: bytes) -> None:
    with pytest.raises(InvalidError, match=message):
        Package.read(archive, limits=limits)


def test_a_list_of_entries_without_end_is_not_read() -> None:
    endless = zipped({f"{number}.json": b"" for number in range(2000)})
    with pytest.raises(InvalidError, match="more than 2 files"):
        Package.read(endless, limits=PackageLimits(max_files=2))


@pytest.mark.parametrize("missing", ["manifest.json", "digests.json"])
def test_an_archive_without_its_documents_is_refused(missing: str, archive: bytes) -> None:
    entries = {name: each for name, each in entries_of(archive).items() if name != missing}
    if missing == "manifest.json":
        entries = with_digests(entries)
    with pytest.raises(InvalidError, match=f"no {missing} in it"):
        Package.read(zipped(entries))


def test_a_digest_list_in_another_order_of_writing_is_refused(archive: bytes) -> None:
    entries = entries_of(archive)
    entries["digests.json"] = entries["digests.json"].replace(b":", b": ", 1)
    with pytest.raises(InvalidError, match="canonical"):
        Package.read(zipped(entries))


def test_a_manifest_of_the_future_is_refused_with_its_schema(parts: Parts, archive: bytes) -> None:
    entries = entries_of(archive)
    entries["manifest.json"] = entries["manifest.json"].replace(b"manifest/1", b"manifest/9")
    with pytest.raises(InvalidError, match=r"\$\.schema"):
        Package.read(zipped(with_digests(entries)))
    assert parts[0].schema == "lineside.manifest/1"


def test_an_archive_cut_anywhere_is_refused(archive: bytes) -> None:
    for length in range(0, len(archive), max(1, len(archive) // 199)):
        with pytest.raises(InvalidError):
            Package.read(archive[:length])


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_mutated_archives_never_pass_as_another_package(
    *, archive: bytes, data: st.DataObject
) -> None:
    mutated = bytearray(archive)
    for place in data.draw(st.lists(st.integers(0, len(archive) - 1), min_size=1, max_size=4)):
        mutated[place] = data.draw(st.integers(0, 255))
    try:
        package = Package.read(bytes(mutated))
    except LinesideError:
        return
    assert package.digest == Package.read(archive).digest


@given(noise=st.binary(max_size=300))
def test_noise_is_no_package(noise: bytes) -> None:
    with pytest.raises(InvalidError, match="not a package archive"):
        Package.read(noise)


def test_sizes_that_sum_to_more_than_the_archive_are_refused() -> None:
    """Held apart from the reader, which notices shared bytes itself where it is new enough."""
    entries = [zipfile.ZipInfo(f"{place}.json") for place in range(3)]
    for entry in entries:
        entry.file_size = entry.compress_size = 500
    with pytest.raises(InvalidError, match="larger than the archive"):
        archive_file._check_list(entries, 1000, where="upload", limits=PackageLimits())


def test_a_manifest_without_crops_or_with_one_name_twice_is_refused(parts: Parts) -> None:
    manifest, files = parts
    empty = replace(manifest, prepare=replace(manifest.prepare, crops=()))
    twice = replace(
        manifest,
        rules=(manifest.rules[0], replace(manifest.rules[1], name="disc")),
        labels=("disc", "disc"),
        prepare=replace(manifest.prepare, crops=manifest.prepare.crops * 2),
    )
    for broken, path in (
        (empty, "$.prepare.crops"),
        (twice, "$.rules"),
        (twice, "$.prepare.crops"),
    ):
        with pytest.raises(InvalidError) as caught:
            build_package(broken, files)
        assert path in {fault.path for fault in caught.value.faults}
