"""The site's authority: what it signs, what it refuses, and that it says so after a restart."""

import ssl
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import ConflictError, InvalidError, LinesideError, NotFoundError, RefusedError
from lineside.fleet import CertificateAuthority, renewal_due, server_certificate
from lineside.testing import FakeClock

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
KEY = ec.generate_private_key(ec.SECP256R1())
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  what has to be refused
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def authority(tmp_path: Path, clock: FakeClock) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "authority", site="hall", clock=clock)


def request(*names: str, key: Key = KEY, extensions: tuple[x509.ExtensionType, ...] = ()) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for one in extensions:
        made = made.add_extension(one, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return made.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def opened(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_a_device_gets_a_certificate_in_its_name_for_asking_only(
    authority: CertificateAuthority, clock: FakeClock
) -> None:
    made = opened(authority.sign_device(request("edge-1"), device="edge-1"))
    made.verify_directly_issued_by(opened(authority.certificate))
    assert made.subject.rfc4514_string() == "CN=edge-1"
    purpose = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purpose) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert made.not_valid_before_utc <= clock.now()
    assert made.not_valid_after_utc - clock.now() == timedelta(days=365)


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        RSA,
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p256", "rsa2048", "p384", "ed25519"],
)
def test_good_keys_are_taken(authority: CertificateAuthority, key: Key) -> None:
    made = opened(authority.sign_device(request("edge-1", key=key), device="edge-1"))
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert made.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


CA = x509.BasicConstraints(ca=True, path_length=None)
SIGNS = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False,
    key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
    decipher_only=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: request("edge-1", extensions=(CA,)), "asks to be an authority"),
        (lambda: request("edge-1", extensions=(SIGNS,)), "asks to sign certificates"),
        (
            lambda: request(
                "edge-1", extensions=(x509.SubjectAlternativeName([x509.DNSName("hub")]),)
            ),
            "further names",
        ),
        (lambda: request("edge-2"), "is for 'edge-2', not for 'edge-1' alone"),
        (lambda: request("edge-1", "edge-2"), "not for 'edge-1' alone"),
        (request, "is for 'nobody'"),
        (lambda: request("edge-1", key=SMALL_RSA), r"too weak .* \(1024 bits\)"),
        (
            lambda: request("edge-1", key=ec.generate_private_key(ec.SECP192R1())),
            "too weak or of an unknown kind",
        ),
        (
            lambda: request("edge-1", key=dsa.generate_private_key(key_size=2048)),  # type: ignore[arg-type]  # a kind that is not taken
            "too weak or of an unknown kind",
        ),
        (lambda: b"", "no signing request"),
        (lambda: b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA", "no signing request"),
        (lambda: request("edge-1") * 100, "a signing request of"),
    ],
)
def test_a_request_for_more_than_its_due_is_refused_with_a_sentence(
    authority: CertificateAuthority, made: Callable[[], bytes], words: str
) -> None:
    with pytest.raises((InvalidError, RefusedError), match=words) as refused:
        authority.sign_device(made(), device="edge-1")
    assert refused.value.fix
    assert authority.issued() == ()


def test_a_name_in_another_place_of_the_subject_is_no_common_name(
    authority: CertificateAuthority,
) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "edge-1")])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(KEY, hashes.SHA256())
    with pytest.raises(RefusedError, match="something else than common name"):
        authority.sign_device(made.public_bytes(serialization.Encoding.PEM), device="edge-1")


def test_a_request_signed_by_another_key_is_refused(authority: CertificateAuthority) -> None:
    import base64

    lines = request("edge-1").decode().splitlines()
    raw = bytearray(base64.b64decode("".join(lines[1:-1])))
    raw[-1] ^= 1
    body = base64.b64encode(bytes(raw)).decode()
    changed = f"{lines[0]}\n{body}\n{lines[-1]}\n".encode()
    with pytest.raises(InvalidError):
        authority.sign_device(changed, device="edge-1")


@settings(max_examples=60)
@given(cut=st.integers(0, 400), flipped=st.integers(0, 399), by=st.integers(1, 255))
def test_a_damaged_request_never_gets_another_name(cut: int, flipped: int, by: int) -> None:
    """Truncated and changed bytes: refused in words, or the same request after all."""
    from lineside.fleet.trust.certificates import requested_key

    raw = bytearray(DAMAGED)
    raw[flipped % len(raw)] ^= by
    for broken in (bytes(raw), DAMAGED[:cut]):
        try:
            key = requested_key(broken, device="edge-1")
        except (InvalidError, RefusedError) as refused:
            assert refused.fix  # noqa: PT017  either way is right
        else:
            assert key == KEY.public_key()


DAMAGED = request("edge-1")


@settings(max_examples=40)
@given(name=st.text(max_size=70))
def test_only_names_of_devices_are_signed(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ca") / "authority"
    made = CertificateAuthority.create(folder, site="hall", clock=FakeClock())
    try:
        got = opened(made.sign_device(request(name or "x"), device=name))
    except (LinesideError, ValueError):
        return
    assert got.subject.rfc4514_string() == f"CN={name}"


@pytest.mark.parametrize("name", ["", "a b", "../x", "-a", "edge/1", "x" * 65, "edge\n1"])
def test_what_is_no_name_is_refused(authority: CertificateAuthority, name: str) -> None:
    with pytest.raises(InvalidError, match="no name for a device"):
        authority.sign_device(request("edge-1"), device=name)


def test_renewal_needs_a_certificate_that_holds(
    authority: CertificateAuthority, clock: FakeClock
) -> None:
    first = authority.sign_device(request("edge-1"), device="edge-1")
    assert not renewal_due(authority.check(first), now=clock.now())
    clock.advance(300 * 86_400)
    assert renewal_due(authority.check(first), now=clock.now())
    second = authority.sign_device(request("edge-1", key=RSA), device="edge-1")
    assert authority.check(second).device == "edge-1"
    with pytest.raises(RefusedError, match="not for 'edge-1' alone"):
        authority.sign_device(request("edge-2"), device=authority.check(first).device)
    clock.advance(66 * 86_400)
    with pytest.raises(RefusedError, match="is over"):
        authority.check(first)


def test_what_was_revoked_is_refused_and_stands_in_the_list(
    authority: CertificateAuthority, clock: FakeClock, tmp_path: Path
) -> None:
    first = authority.sign_device(request("edge-1"), device="edge-1")
    other = authority.sign_device(request("edge-2"), device="edge-2")
    assert len(authority.revoke("edge-1", reason="stolen")) == 1
    again = CertificateAuthority.open(tmp_path / "authority", clock=clock)
    with pytest.raises(RefusedError, match="was revoked"):
        again.check(first)
    assert again.check(other).device == "edge-2"
    listed = x509.load_pem_x509_crl(again.crl())
    assert listed.is_signature_valid(opened(authority.certificate).public_key())  # type: ignore[arg-type]  # the authority's own kind of key
    assert [one.serial_number for one in listed] == [opened(first).serial_number]
    with pytest.raises(NotFoundError):
        again.revoke("edge-1", reason="again")
    with pytest.raises(InvalidError, match="no reason"):
        again.revoke("edge-2", reason=" ")
    enrolled_anew = again.sign_device(request("edge-1", key=RSA), device="edge-1")
    assert again.check(enrolled_anew).device == "edge-1"


def test_the_list_is_renewed_in_time_and_counts_up(
    authority: CertificateAuthority, clock: FakeClock
) -> None:
    first = authority.crl()
    clock.advance(10 * 86_400)
    assert authority.crl() == first
    clock.advance(10 * 86_400)
    second = x509.load_pem_x509_crl(authority.crl())
    assert second.next_update_utc is not None
    assert second.next_update_utc - clock.now() == timedelta(days=30)
    number = second.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == 2


def test_of_another_site_or_purpose_is_no_device(
    authority: CertificateAuthority, tmp_path: Path, clock: FakeClock
) -> None:
    other = CertificateAuthority.create(tmp_path / "other", site="hall", clock=clock)
    with pytest.raises(RefusedError, match="did not sign"):
        authority.check(other.sign_device(request("edge-1"), device="edge-1"))
    with pytest.raises(RefusedError, match="is not a device's"):
        authority.check(authority.issue_server(["edge-1"]).certificate)
    with pytest.raises(RefusedError, match="is not a device's"):
        authority.check(authority.certificate)
    with pytest.raises(InvalidError):
        authority.check(b"nonsense")


def test_a_server_is_known_by_names_and_addresses(
    authority: CertificateAuthority, clock: FakeClock, tmp_path: Path
) -> None:
    pair = authority.issue_server(["hub.plant.lan", "127.0.0.1", "::1"])
    told = server_certificate(pair.certificate, where="here")
    assert told.hosts == ("hub.plant.lan", "127.0.0.1", "::1")
    assert (told.ends_at - clock.now()).days == 397
    for name, content in (("crt", pair.certificate), ("key", pair.key)):
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")


@pytest.mark.parametrize("host", ["", "a b", "HUB", "-a", "a..b", "x" * 300, "hub\n"])
def test_what_is_no_host_is_refused(authority: CertificateAuthority, host: str) -> None:
    with pytest.raises(InvalidError, match="neither a host name nor an address"):
        authority.issue_server([host])


def test_no_host_at_all_is_refused(authority: CertificateAuthority) -> None:
    with pytest.raises(InvalidError, match="no host"):
        authority.issue_server([])


def test_keys_are_for_their_owner_only_and_nothing_is_overwritten(
    authority: CertificateAuthority, tmp_path: Path, clock: FakeClock
) -> None:
    folder = tmp_path / "authority"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "authority.key").stat().st_mode) == 0o600
    before = authority.certificate
    with pytest.raises(ConflictError, match="never overwritten"):
        CertificateAuthority.create(folder, site="hall", clock=clock)
    assert authority.certificate == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_folder_without_authority_says_so(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(NotFoundError, match="no certificate authority"):
        CertificateAuthority.open(tmp_path / "nothing", clock=clock)
    with pytest.raises(InvalidError, match="without a name"):
        CertificateAuthority.create(tmp_path / "new", site=" ", clock=clock)


def test_key_and_certificate_of_two_authorities_are_refused(
    authority: CertificateAuthority, tmp_path: Path, clock: FakeClock
) -> None:
    assert authority.certificate
    CertificateAuthority.create(tmp_path / "other", site="hall", clock=clock)
    (tmp_path / "authority" / "authority.key").write_bytes(
        (tmp_path / "other" / "authority.key").read_bytes()
    )
    with pytest.raises(InvalidError, match="do not belong together"):
        CertificateAuthority.open(tmp_path / "authority", clock=clock)
    (tmp_path / "authority" / "authority.key").write_bytes(b"no key")
    with pytest.raises(InvalidError, match="no certificate and key"):
        CertificateAuthority.open(tmp_path / "authority", clock=clock)
