"""`metergate audit` as people use it, on a head-end whose database was edited by hand."""

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headend.audit.chain import Entry, Head, Trail
from headend.audit.heads import HeadsFile, sign_head
from headend.audit.keeper import AuditKeeper
from headend.audit.spool import Spool
from headend.state.store import State
from metergate.cli import app
from metergate.headend_file import HEADS_FILE, SPOOL_FILE, STATE_FILE
from metering.batch import Batch
from metering.errors import ConfigError
from metering.model import JournalEntry
from storage.codec import pack
from storage.log import Log
from trust.keys import SigningKey


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


class Desk:
    """A head-end's file, key and audit of five entries, whose head was signed."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.key = SigningKey.generate()
        self.key.save(folder / "audit.pem")
        self.file = folder / "headend.toml"
        self.file.write_text(
            f'[headend]\ndata = "{self.data}"\n[broker]\nhost = "127.0.0.1"\n'
            f'[audit]\nkey = "file:{folder / "audit.pem"}"\n'
        )
        with contextlib.closing(State.open(self.data / STATE_FILE)) as state:
            Trail(state).write(*(entry(number) for number in range(5)))
        asyncio.run(self.sign())

    async def sign(self) -> None:
        async def publish(topic: str, payload: bytes, *, retain: bool) -> None:
            raise AssertionError((topic, payload, retain))

        with contextlib.closing(State.open(self.data / STATE_FILE)) as state:
            spool, heads = Spool(self.data / SPOOL_FILE), HeadsFile(self.data / HEADS_FILE)
            await AuditKeeper(Trail(state), spool, heads, self.key, publish, list).sign_now(self.key)

    def head(self) -> bytes:
        return (self.data / HEADS_FILE).read_bytes().strip()

    def by_hand(self, *statements: str) -> None:
        with contextlib.closing(sqlite3.connect(self.data / STATE_FILE)) as database:
            for verb in ("update", "delete"):
                database.execute(f"DROP TRIGGER audit_no_{verb}")
            for each in statements:
                database.execute(each)
            database.commit()

    def sent_back(self, *heads: bytes) -> None:
        with contextlib.closing(Log.open(self.data / "log")) as log:
            for number, head in enumerate(heads):
                entries = [JournalEntry(number, "anchor", f"a{number}", "kept", {"head": head.decode()})]
                log.append_now([pack(Batch((), journal=entries))])


def entry(number: int) -> Entry:
    return Entry(number, "token:ab", "command-requested", f"c{number}", "js/nj", {"number": number})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_an_audit_that_nobody_touched_is_whole(desk: Desk):
    said = run("audit", "verify", desk.file)
    assert (said.exit_code, said.output) == (0, "5 entries, 1 signed heads: whole\n")


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE audit SET actor = 'token:zz' WHERE seq = 3", "entry 3: was changed: its content has another hash"),
        ("UPDATE audit SET at = 7 WHERE seq = 2", "entry 2: was changed: its content has another hash"),
        ("DELETE FROM audit WHERE seq = 2", "entry 3: entries 2 to 2 are missing"),
        ("DELETE FROM audit WHERE seq > 3", "entry 5: cut off: a signed head reaches to 5, the audit ends at 3"),
        ("DELETE FROM audit", "entry 5: cut off: a signed head reaches to 5, the audit ends at 0"),
    ],
    ids=["actor", "time", "removed", "cut-off", "emptied"],
)
def test_a_database_edited_by_hand_is_found_out(desk: Desk, statement: str, finding: str):
    desk.by_hand(statement)
    said = run("audit", "verify", desk.file)
    assert said.exit_code == 1
    assert finding in said.output.splitlines()
    assert "findings" in said.output.splitlines()[-1]


def test_entries_that_changed_places_are_found(desk: Desk):
    desk.by_hand(
        "UPDATE audit SET seq = 99 WHERE seq = 2",
        "UPDATE audit SET seq = 2 WHERE seq = 3",
        "UPDATE audit SET seq = 3 WHERE seq = 99",
    )
    said = run("audit", "verify", desk.file)
    assert said.exit_code == 1
    assert "entry 2: does not follow the entry before: one of the two was changed" in said.output


def test_who_also_took_the_file_of_heads_is_found_by_what_gateways_kept(desk: Desk):
    desk.sent_back(desk.head())
    (desk.data / HEADS_FILE).unlink()
    desk.by_hand("DELETE FROM audit WHERE seq > 3")
    said = run("audit", "verify", desk.file)
    assert said.exit_code == 0
    assert "no signed head was there" in said.output
    assert run("audit", "verify", desk.file, "--from-log").exit_code == 1


def test_heads_out_of_a_gateways_log_are_held_against_it(desk: Desk, tmp_path: Path):
    desk.sent_back(desk.head())
    said = run("audit", "heads", desk.data)
    assert said.stdout.encode().strip() == desk.head()
    (tmp_path / "anchors").write_text(said.stdout)
    (desk.data / HEADS_FILE).unlink()
    assert run("audit", "verify", desk.file, "--anchors", tmp_path / "anchors").exit_code == 0
    desk.by_hand("DELETE FROM audit WHERE seq > 3")
    assert run("audit", "verify", desk.file, "--anchors", tmp_path / "anchors").exit_code == 1


def test_a_forged_head_is_found_and_one_of_another_known_key_is_not(desk: Desk):
    other = SigningKey.generate()
    HeadsFile(desk.data / HEADS_FILE).add(sign_head(Head(3, "00" * 32), 1, other))
    said = run("audit", "verify", desk.file)
    assert said.exit_code == 1
    assert "head 2: a head that no known key has signed" in said.output
    said = run("audit", "verify", desk.file, "--key", other.public)
    assert "entry 3: the signed head of this entry has another hash: rewritten since" in said.output


def test_what_cannot_be_verified_is_told(desk: Desk, tmp_path: Path):
    with pytest.raises(ConfigError, match="is not there"):
        raise run("audit", "verify", desk.file, "--anchors", tmp_path / "nothing").exception or AssertionError
    with pytest.raises(ConfigError, match="--key"):
        raise run("audit", "verify", desk.file, "--key", "nonsense").exception or AssertionError
    desk.file.write_text(desk.file.read_text().partition("[audit]")[0])
    with pytest.raises(ConfigError, match="neither"):
        raise run("audit", "verify", desk.file).exception or AssertionError


def test_an_export_has_every_entry_with_its_hashes(desk: Desk, tmp_path: Path):
    out = tmp_path / "audit.ndjson"
    assert run("audit", "export", desk.file, "--out", out).exit_code == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["prev"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
    assert lines[2]["body"] == {"number": 2}
    assert run("audit", "export", desk.file).stdout == out.read_text()
