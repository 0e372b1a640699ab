"""`metergate trust` and `metergate key sign` as people use them: what is signed is shown from its own bytes."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from gateway.supply.trust_file import TrustFile
from metergate.cli import app
from metergate.trust_draft import load_draft
from metering.supply import Action, CommandMessage, Manifest, SupplyCommand, canonical
from trust.authority import Authority
from trust.merkle import leaf, root_of
from trust.sheet import Sheet
from trust.signatures import merge

DRAFT = """
gateway = "gw1"
version = {version}
m = 2
k = 2
custodian = [{dora}, {emil}]
approver = [{anna}, {ben}]
[caps]
per_hour = 5
per_day = 20
share_per_day = 500
[[binding]]
point = "MP-1"
device = "m1"
serial = "123"
identity = "address:000000000123"
"""
COMMAND = SupplyCommand(
    "c1", Action.DISCONNECT, "MP-1", "m1", "123", 0, "gw1", "debt", "cleo", "0" * 32, 1, 0, 3_600_000_000, "case-7"
)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


class Desk:
    """A folder with five people's keys and a gateway's site file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        lines = {}
        for person in ("dora", "emil", "anna", "ben", "eve"):
            made = run("key", "make", self.key(person), "--person", person)
            lines[person] = made.output.splitlines()[-1]
        self._lines = lines
        self.site = folder / "site.toml"
        self.site.write_text(f'[gateway]\nid = "gw1"\ndata = "{folder / "data"}"\n')

    def key(self, person: str) -> Path:
        return self.folder / f"{person}.pem"

    def document(self, *signers: str, version: int = 1) -> Path:
        draft, out = self.folder / "draft.toml", self.folder / f"trust-{version}-{'-'.join(signers)}.json"
        draft.write_text(DRAFT.format(version=version, **self._lines))
        done = run("trust", "make", draft, self.key(signers[0]), "--out", out, "--yes")
        assert done.exit_code == 0, done.output
        for signer in signers[1:]:
            assert run("trust", "sign", out, self.key(signer), "--yes").exit_code == 0
        return out

    def sheet(self, sheet: Sheet) -> Path:
        path = self.folder / "sheet.json"
        path.write_bytes(msgspec.json.encode(sheet))
        return path


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_two_custodians_put_a_document_in_force_and_one_does_not(desk: Desk):
    refused = run("trust", "install", desk.site, desk.document("dora"))
    assert "1 of the custodians signed it; 2 are needed" in str(refused.exception)
    done = run("trust", "install", desk.site, desk.document("dora", "emil"))
    assert "version 1 is in force on gw1 (none was)" in done.output
    shown = run("trust", "show", desk.document("emil", "dora", version=2)).output
    assert "disconnects approved by 2 of: anna, ben" in shown
    assert "2 of 2 custodians have signed: dora, emil" in shown


def test_an_older_document_does_not_come_back_not_even_as_a_file(desk: Desk, tmp_path: Path):
    first, second = desk.document("dora", "emil"), desk.document("dora", "emil", version=2)
    for each in (first, second):
        assert run("trust", "install", desk.site, each).exit_code == 0
    assert "not newer" in str(run("trust", "install", desk.site, first).exception)
    (tmp_path / "data" / "trust" / "document.json").write_bytes(first.read_bytes())
    with pytest.raises(Exception, match="older than version 2"):
        TrustFile(tmp_path / "data", "gw1")


def test_what_two_approvers_sign_is_what_the_gateway_takes(desk: Desk, tmp_path: Path):
    run("trust", "install", desk.site, desk.document("dora", "emil"))
    sheet = desk.sheet(Sheet(canonical(COMMAND)))
    parts = []
    for person in ("anna", "ben"):
        out = tmp_path / f"{person}.jws"
        done = run("key", "sign", desk.key(person), sheet, "--out", out, "--yes")
        assert "DISCONNECT [3.31.0.23] at meter point MP-1" in done.output
        parts.append(out.read_bytes())
    document = TrustFile(tmp_path / "data", "gw1").document
    assert document is not None
    found = Authority(document).authorise(CommandMessage("c1", canonical(COMMAND), merge(*parts)))
    assert found.persons == {"anna", "ben"}


def test_nothing_is_signed_without_a_word(desk: Desk, tmp_path: Path):
    sheet = desk.sheet(Sheet(canonical(COMMAND)))
    done = run("key", "sign", desk.key("anna"), sheet, "--out", tmp_path / "out")
    assert "no terminal" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_campaign_is_signed_by_the_root_of_the_commands_that_were_shown(desk: Desk):
    bodies = [canonical(msgspec.structs.replace(COMMAND, id=f"c{n}", point=f"MP-{n}")) for n in range(30)]
    root = root_of([leaf(each) for each in bodies]).hex()
    head = canonical(Manifest("k1", Action.DISCONNECT, "cleo", 30, root, 0, 3_600_000_000))
    done = run("key", "sign", desk.key("anna"), desk.sheet(Sheet(head, bodies)), "--yes")
    assert "DISCONNECT at 30 meter points" in done.output
    assert "and at 10 more:" in done.output
    other = [*bodies[:-1], canonical(msgspec.structs.replace(COMMAND, id="c29", point="MP-99"))]
    refused = run("key", "sign", desk.key("anna"), desk.sheet(Sheet(head, other)), "--yes")
    assert "not the commands that the manifest stands for" in str(refused.exception)


def test_a_sheet_with_a_text_of_its_own_is_refused(desk: Desk):
    sheet = desk.sheet(Sheet(canonical(COMMAND)))
    sheet.write_text(json.dumps({**json.loads(sheet.read_text()), "text": "RECONNECT, harmless"}))
    assert "nothing is signed" in str(run("key", "sign", desk.key("anna"), sheet, "--yes").exception)


def test_a_key_that_others_can_read_is_not_used(desk: Desk):
    desk.key("anna").chmod(0o644)
    done = run("key", "public", desk.key("anna"))
    assert "chmod 600" in str(done.exception)


def test_a_key_opens_with_its_passphrase_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PASS", "correct horse")
    monkeypatch.setenv("OTHER", "battery")
    run("key", "make", tmp_path / "k.pem", "--person", "x", "--passphrase", "env:PASS")
    assert run("key", "public", tmp_path / "k.pem", "--passphrase", "env:PASS").exit_code == 0
    for words in ([], ["--passphrase", "env:OTHER"]):
        assert "signing key" in str(run("key", "public", tmp_path / "k.pem", *words).exception)
    assert b"correct horse" not in (tmp_path / "k.pem").read_bytes()


def test_the_example_draft_can_be_used():
    assert load_draft(Path("config/trust.toml")).faults() == []
