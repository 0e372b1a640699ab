import stat
import subprocess
import sys
from pathlib import Path

import pytest

from headend.tokens import SCOPES, TokenBook
from metering.errors import StorageError

NAMED = (("anna", ""), ("anna's phone", "anna"), ("her other one", "anna"))


@pytest.fixture
def book(tmp_path: Path) -> TokenBook:
    return TokenBook(tmp_path / "state.db")


def test_a_token_gives_back_what_it_was_made_for(book: TokenBook) -> None:
    plaintext = book.create("billing", ["readings:read"], ["js/nj", "zj"])
    grant = book.verify(plaintext)
    assert grant is not None
    assert (grant.name, grant.scopes, grant.regions) == ("billing", {"readings:read"}, ("js/nj", "zj"))
    assert plaintext == f"mg_{grant.token}_{plaintext[12:]}"
    assert len(plaintext) == 55


def test_a_token_is_a_persons_and_its_name_says_whose_where_nobody_did(book: TokenBook) -> None:
    grants = [book.verify(book.create(name, ["admin"], [""], person=whose)) for name, whose in NAMED]
    assert [each.who for each in grants if each is not None] == ["anna", "anna", "anna"]
    assert [(each.name, each.person) for each in book.list()] == [(name, "anna") for name, _ in NAMED]


@pytest.mark.parametrize("person", [" anna", "anna\n", "a" * 101])
def test_a_person_has_a_name_that_can_be_compared(book: TokenBook, person: str) -> None:
    with pytest.raises(ValueError, match="a person has at most 100 printable characters"):
        book.create("billing", ["admin"], [""], person=person)


def test_nothing_of_the_secret_is_kept(book: TokenBook, tmp_path: Path) -> None:
    plaintext = book.create("billing", SCOPES, [""])
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert plaintext[12:].encode() not in stored
    assert plaintext[12:] not in repr(book.list())
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


def test_a_revoked_token_ends_at_once_and_in_another_process_too(book: TokenBook, tmp_path: Path) -> None:
    plaintext = book.create("billing", ["admin"], [""])
    other = TokenBook(tmp_path / "state.db")
    assert other.verify(plaintext) is not None
    assert book.revoke(plaintext[3:11])
    assert other.verify(plaintext) is None
    first = book.list()[0].revoked_at
    assert book.revoke(plaintext[3:11])
    assert book.list()[0].revoked_at == first
    assert not book.revoke("00000000")


def test_an_expired_token_is_nobody(book: TokenBook) -> None:
    plaintext = book.create("billing", ["admin"], [""], expires_at=1_000)
    assert book.verify(plaintext, now=999) is not None
    assert book.verify(plaintext, now=1_000) is None
    assert book.verify(plaintext) is None


@pytest.mark.parametrize("wrong", ["", "mg_", "mg_00000000_" + "A" * 43, "x" * 55, "mg_0000000g_" + "A" * 43])
def test_what_is_no_token_of_ours_is_nobody(book: TokenBook, wrong: str) -> None:
    assert book.verify(wrong) is None


def test_one_wrong_character_is_nobody(book: TokenBook) -> None:
    plaintext = book.create("billing", ["admin"], [""])
    last = "A" if plaintext[-2] != "A" else "B"
    assert book.verify(plaintext[:-2] + last + plaintext[-1]) is None


@pytest.mark.parametrize(
    ("name", "scopes", "regions", "message"),
    [
        (" ", ["admin"], [""], "name"),
        ("a", [], [""], "no scope"),
        ("a", ["root"], [""], "'root' is not a scope"),
        ("a", ["admin"], [], "needs a region"),
        ("a", ["admin"], ["js//nj"], "not a region"),
        ("a", ["admin"], ["/js"], "not a region"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(
    book: TokenBook, name: str, scopes: list[str], regions: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        book.create(name, scopes, regions)


def test_processes_create_tokens_at_the_same_time(book: TokenBook, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from headend.tokens import TokenBook\n"
        "book = TokenBook(Path(sys.argv[1]))\n"
        "for index in range(20): book.create(f'n{index}', ['admin'], [''])"
    )
    at_work = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "state.db")]) for _ in range(3)]
    assert [process.wait(60) for process in at_work] == [0, 0, 0]
    assert len(book.list()) == 60


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        TokenBook(tmp_path / "nowhere" / "state.db")
