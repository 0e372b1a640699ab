"""Enrolment in the state: a token counts once, one certificate of a gateway at a time."""

from headend.state.enrolment import Certificate, Enrolment
from headend.state.gateways import Gateways
from headend.state.registry import DatabaseRegistry
from headend.state.store import State


class Signer:
    """Gives certificates with serials that count up."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, gateway: str, key: str = "k1") -> Certificate:
        self.made += 1
        return Certificate(f"{self.made:x}", gateway, key, f"pem {self.made}", 10_000, f"print {self.made}")


def opened(state: State) -> tuple[Enrolment, Gateways]:
    gateways = Gateways(state)
    gateways.create("g1", 1)
    return Enrolment(state), gateways


def test_a_token_enrols_once_and_its_answer_comes_again(state: State) -> None:
    (enrolment, gateways), sign = opened(state), Signer()
    token = enrolment.create("g1", expires_at=100)
    assert enrolment.use("other", "k1", sign, 50) is None
    assert enrolment.use(token, "k1", sign, 100) is None
    made = enrolment.use(token, "k1", sign, 99)
    assert made is not None
    assert enrolment.use(token, "k2", sign, 99) is None
    again = enrolment.use(token, "k1", sign, 500)
    assert again is not None
    assert (again.pem, sign.made) == (made.pem, 1)
    found = gateways.get("g1")
    assert found is not None
    assert (found.enrolled_at, found.fingerprint) == (99, "print 1")


def test_a_gateway_enrolled_anew_ends_its_old_certificate(state: State) -> None:
    (enrolment, _), sign = opened(state), Signer()
    old, new = enrolment.create("g1", 100), enrolment.create("g1", 100)
    assert enrolment.use(old, "k1", sign, 1)
    assert enrolment.use(new, "k2", lambda gateway: sign(gateway, "k2"), 2)
    assert enrolment.use(old, "k1", sign, 3) is None
    assert enrolment.revoked(3) == [("1", 2)]
    assert enrolment.revoked(10_000) == []


def test_a_revoked_gateway_loses_certificate_and_open_tokens(state: State) -> None:
    (enrolment, gateways), sign = opened(state), Signer()
    used, unused = enrolment.create("g1", 100), enrolment.create("g1", 100)
    assert enrolment.use(used, "k1", sign, 1)
    gateways.revoke("g1", 7)
    assert enrolment.revoked(8) == [("1", 7)]
    assert enrolment.use(used, "k1", sign, 9) is None
    assert enrolment.use(unused, "k1", sign, 9) is None
    assert not DatabaseRegistry(state).admits("g1")
