"""The head-end's file: the example is one, and what is wrong in it is told with its line."""

from pathlib import Path

import pytest

from metergate.commands import registry, token
from metergate.fleet_file import load_fleet
from metergate.headend_file import JetStreamInboxSettings, load_headend
from metering.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config" / "headend.toml"
FLEET = EXAMPLE.with_name("fleet.toml")


def place(folder: Path) -> Path:
    path = folder / "headend.toml"
    path.write_text(EXAMPLE.read_text().replace("/var/lib/metergate-headend", str(folder / "data")))
    return path


def test_the_examples_of_a_headend_and_its_fleet_fit_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = place(tmp_path)
    for _ in range(2):
        registry.take_in(path, FLEET)
    registry.show(path)
    said = capsys.readouterr().out
    assert "1 gateways, 1 meters; 1 meters are new or changed" in said
    assert "1 gateways, 1 meters; 0 meters are new or changed" in said
    assert "gateway  elm-7  not enrolled" in said
    assert "meter  flat-01  eastron_sdm630  at MP-1  read by elm-7" in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('gateway = "elm-7" ', 'gateway = "elm-8" ', r"fleet\.toml:\d+: .*there is no gateway 'elm-8' in this file"),
        ('"eastron_sdm630"', '"nothing"', r"fleet\.toml:\d+: .*nothing"),
        ('serial = "123456"', "serials = 1", r"fleet\.toml:\d+: .*serials"),
    ],
    ids=["gateway", "model", "key"],
)
def test_what_is_wrong_in_a_fleets_file_is_told_with_its_line(tmp_path: Path, old: str, new: str, message: str):
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_fleet(path, None)


def test_a_password_in_the_states_address_is_refused(tmp_path: Path):
    path = place(tmp_path)
    path.write_text(path.read_text() + '\n[state]\nurl = "postgresql://me:planted@127.0.0.1/metergate"\n')
    with pytest.raises(ConfigError, match="a password does not stand in the file") as raised:
        load_headend(path)
    assert "planted" not in str(raised.value)


WEBHOOK = '[[webhook]]\nname = "a"\nurl = "{url}"\nsecret = "env:PLANTED"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WEBHOOK.format(url="http://collections.example/"), "only https"),
        (WEBHOOK.format(url="https://me:planted@collections.example/"), "without a user"),
        (WEBHOOK.format(url="https://a.example/") * 2, "one name"),
        (WEBHOOK.format(url="https://a.example/") + 'events = ["reading"]\n', "events"),
        ('[audit]\nkey = "planted"\n', "key"),
    ],
    ids=["plain", "user", "names", "events", "key"],
)
def test_what_is_wrong_about_audit_and_webhooks_is_told(tmp_path: Path, text: str, message: str):
    path = place(tmp_path)
    path.write_text(path.read_text() + text)
    with pytest.raises(ConfigError, match=message):
        load_headend(path)


def test_a_webhooks_secret_is_long_enough_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = place(tmp_path)
    path.write_text(path.read_text() + WEBHOOK.format(url="https://a.example/x"))
    (settings,) = load_headend(path).webhook
    monkeypatch.setenv("PLANTED", "short")
    with pytest.raises(ConfigError, match="shorter than 16"):
        settings.open()
    monkeypatch.setenv("PLANTED", "a planted secret")
    assert settings.open().secret == b"a planted secret"
    assert "planted" not in repr(settings.open())


def test_tokens_of_a_headend_are_made_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = place(tmp_path)
    token.create(path, "billing", ["readings:read"], [""], 90)
    token.show(path)
    assert "billing  readings:read  everywhere" in capsys.readouterr().out


def test_the_example_of_several_head_ends_is_one_and_its_faults_are_told_with_their_line(tmp_path: Path):
    path = place(tmp_path)
    lines = path.read_text().split("\n")
    first = next(number for number, line in enumerate(lines) if line.startswith("# [inbox]"))
    for number in range(first, first + 8):
        lines[number] = lines[number].removeprefix("# ")
    path.write_text("\n".join(lines))
    inbox = load_headend(path).inbox
    assert isinstance(inbox, JetStreamInboxSettings)
    assert (inbox.stream, inbox.partitions, len(inbox.servers)) == ("readings", 16, 3)
    for old, new in (
        ("tls://nats1.example:4222", "nats1"),
        ("partitions = 16", "partitions = 0"),
        ("stream =", "dream ="),
    ):
        path.write_text("\n".join(lines).replace(old, new))
        with pytest.raises(ConfigError, match=r"headend\.toml:\d+: inbox\.\w+"):
            load_headend(path)
