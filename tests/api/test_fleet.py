"""Gateways, enrolment and the writing half of the registry, as operators meet them over HTTP."""

from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headend.enrolling import TRIES
from tests.api.example_site import Site


def csr_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "whatever") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def ask(site: Site, method: str, path: str, body: object = None, regions: Sequence[str] = ("",)) -> tuple[int, Any]:
    answer = site.client.request(method, path, json=body, headers=site.token("admin", regions=regions))
    return answer.status_code, answer.json()


def enrol(site: Site, token: str, csr: str) -> tuple[int, Any]:
    answer = site.client.post("/v1/enrolments", json={"token": token, "csr": csr})
    return answer.status_code, answer.json()


def test_a_gateway_shows_what_it_said_and_what_is_missing(site: Site) -> None:
    status, found = ask(site, "GET", "/v1/gateways/gw1")
    assert status == 200
    wanted = {
        "id": "gw1",
        "online": True,
        "boot": "b1",
        "version": "1.0",
        "meters": 3,
        "epoch": "e1",
        "epochs": ["e1"],
        "contiguous": 5,
        "missing": [[6, 7]],
        "missing_count": 2,
        "log_depth": 6,
        "clock_offset_ms": 1250,
        "refused": "",
    }
    assert {name: found[name] for name in wanted} == wanted


def test_gateways_are_seen_where_their_meters_hang(site: Site) -> None:
    def seen(*regions: str) -> list[str]:
        return [each["id"] for each in ask(site, "GET", "/v1/gateways", regions=regions)[1]["gateways"]]

    assert seen("") == ["gw1", "gw2"]
    assert seen("js/nj") == ["gw1"]
    assert seen("elsewhere") == []
    assert ask(site, "GET", "/v1/gateways/gw2", regions=["js/nj"])[0] == 404
    assert ask(site, "DELETE", "/v1/gateways/gw1", regions=["js/nj"])[0] == 403


def test_gateways_come_in_pages(site: Site) -> None:
    _, first = ask(site, "GET", "/v1/gateways?limit=1")
    _, second = ask(site, "GET", f"/v1/gateways?limit=1&cursor={first['next']}")
    assert [each["id"] for page in (first, second) for each in page["gateways"]] == ["gw1", "gw2"]
    assert second["next"] is None


def test_a_reader_is_not_an_operator(site: Site) -> None:
    for method, path in (("GET", "/v1/gateways"), ("POST", "/v1/gateways"), ("PUT", "/v1/meter-points/p9")):
        assert site.client.request(method, path, headers=site.token(), json={}).status_code == 403


def test_a_gateway_enrols_by_its_token_once_and_its_answer_comes_again(site: Site) -> None:
    status, invited = ask(site, "POST", "/v1/gateways", {"id": "gw9"})
    assert status == 201
    key = ec.generate_private_key(ec.SECP256R1())
    status, first = enrol(site, invited["token"], csr_of(key, "gw1"))
    assert status == 200
    certificate = x509.load_pem_x509_certificate(first["certificate"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(first["authority"].encode()))
    assert certificate.subject.rfc4514_string() == "CN=gw9"  # whatever the request asked for
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert enrol(site, invited["token"], csr_of(key)) == (200, first)
    other = csr_of(ec.generate_private_key(ec.SECP256R1()))
    assert enrol(site, invited["token"], other)[1]["type"].endswith("not-enrolled")
    assert ask(site, "GET", "/v1/gateways/gw9")[1]["fingerprint"] == certificate.fingerprint(hashes.SHA256()).hex()


def test_what_is_no_request_for_a_key_on_p256_is_refused(site: Site) -> None:
    _, invited = ask(site, "POST", "/v1/gateways", {"id": "gw9"})
    for csr in (
        "nothing",
        csr_of(rsa.generate_private_key(65537, 2048)),
        csr_of(ec.generate_private_key(ec.SECP384R1())),
    ):
        status, problem = enrol(site, invited["token"], csr)
        assert (status, problem["errors"][0]["field"]) == (400, "csr")


def test_guessing_tokens_is_slowed_down(site: Site) -> None:
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    answers = [enrol(site, f"guess-{number}", csr)[0] for number in range(TRIES + 1)]
    assert answers == [403] * TRIES + [429]


def test_a_revoked_gateway_is_told_so_and_may_be_invited_anew(site: Site) -> None:
    assert ask(site, "DELETE", "/v1/gateways/gw1")[1]["refused"] == "revoked"
    assert ask(site, "POST", "/v1/gateways", {"id": "gw1"})[0] == 201
    assert ask(site, "GET", "/v1/gateways/gw1")[1]["revoked_at"] is None
    assert ask(site, "DELETE", "/v1/gateways/nobody")[0] == 404


def test_a_meter_is_put_where_it_hangs_and_given_to_a_gateway(site: Site) -> None:
    where = {"region": "js/nj/st2", "zone": "Asia/Shanghai", "customer": "resident"}
    status, point = ask(site, "PUT", "/v1/meter-points/p9", where)
    assert (status, point["customer"]) == (200, "resident")
    body = {"profile": "abb_b23", "serial": "77", "installation": {"point": "p9", "valid_from": "2026-01-01T00:00:00Z"}}
    status, device = ask(site, "PUT", "/v1/devices/m9", body)
    assert (status, device["installations"][0]["point"], device["maker"]) == (200, "p9", "ABB")
    status, device = ask(site, "PUT", "/v1/devices/m9/assignment", {"gateway": "gw2"})
    assert (status, device["gateway"]) == (200, "gw2")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/devices/m9", {"profile": "none"}, "profile"),
        ("/v1/devices/m9", {"profile": "abb_b23", "installation": {"point": "p1"}}, "installation.valid_from"),
        (
            "/v1/devices/m9",
            {"profile": "abb_b23", "installation": {"point": "p1", "valid_from": "2027-01-01T00:00:00Z"}},
            "installation",
        ),
        ("/v1/devices/m1/assignment", {"gateway": "nobody"}, "gateway"),
        ("/v1/devices/m1/assignment", {"gateway": "gw1", "since": "2999-01-01T00:00:00Z"}, "since"),
        ("/v1/meter-points/p1", {"region": "a/", "zone": "UTC"}, "region"),
        ("/v1/meter-points/p1", {"region": "a", "zone": "Nowhere/City"}, "zone"),
        ("/v1/meter-points/p1", {"region": "a", "customer": "a hospital"}, "customer"),
    ],
    ids=["model", "no-begin", "overlap", "gateway", "future", "region", "zone", "customer"],
)
def test_what_cannot_be_is_told_by_its_field(site: Site, path: str, body: object, field: str) -> None:
    status, problem = ask(site, "PUT", path, body)
    assert (status, problem["errors"][0]["field"]) == (400, field)


def test_nothing_is_written_beyond_the_regions_of_a_token(site: Site) -> None:
    assert ask(site, "PUT", "/v1/meter-points/p2", {"region": "js/nj"}, ["js/nj"])[0] == 403
    assert ask(site, "PUT", "/v1/meter-points/p1", {"region": "elsewhere"}, ["js/nj"])[0] == 403
    assert ask(site, "PUT", "/v1/devices/m3/assignment", {"gateway": "gw1"}, ["js/nj"])[0] == 404
    body = {"profile": "abb_b23", "installation": {"point": "p2", "valid_from": "2020-01-01T00:00:00Z"}}
    assert ask(site, "PUT", "/v1/devices/new", body, ["js/nj"])[0] == 403
