"""Policy as it is asked: which rule set, whose word on the debt, and what is fresh; collections is a real server."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from headend.audit.chain import Trail
from headend.policy.collections import Asker, CollectionsError, FactsBook, read_facts, sign, together
from headend.policy.desk import Choice, PolicyDesk
from headend.policy.facts import CollectionFacts, Entry, RegisterKind, Verdict
from headend.policy.registers import Registers
from headend.policy.rule_set import load_rule_set, question_of, rule_set_names
from headend.state.store import State
from metering.errors import ConfigError
from metering.model import SECOND
from metering.supply import Action, SupplyCommand
from metering.timing import from_rfc3339

A = Action
GOOD = next(each for each in load_rule_set("uk").example if not each.expect)
NOW = from_rfc3339(GOOD.at)
FACTS = question_of(GOOD).facts or CollectionFacts(0)
SECRET = "a secret of collections"
ANSWER = (
    b'{"at":"2026-11-24T10:59:00Z","owed":"900.00","currency":"GBP","notices":['
    b'{"id":"n1","kind":"demand","delivered_at":"2026-10-20T09:00:00Z"},'
    b'{"id":"n2","kind":"notice","delivered_at":"2026-11-12T09:00:00Z"}]}'
)


def command(action: Action = Action.DISCONNECT) -> SupplyCommand:
    times = (NOW, NOW + 3600 * SECOND)
    return SupplyCommand("c1", action, "p1", "m1", "100", 0, "gw1", "debt", "token:aa", "0" * 32, 1, *times)


def desk(state: State, asker: Asker | None = None, *choices: Choice) -> PolicyDesk:
    chosen = choices or (Choice("uk", "", load_rule_set("uk")),)
    regions = {"p1": "uk/lon"}
    return PolicyDesk(chosen, Registers(state), FactsBook(state), regions.get, asker)


def judged(
    policy: PolicyDesk, customer: str, facts: CollectionFacts | None = FACTS, now: int = NOW, of: Action = A.DISCONNECT
) -> Verdict:
    return policy.judge(command(of), "Europe/London", customer, facts, now, policy.known(["p1"], now))


def refusals(policy: PolicyDesk, facts: CollectionFacts | None = FACTS, now: int = NOW) -> list[str]:
    verdict = judged(policy, "resident", facts, now)
    assert verdict.passed is (not verdict.refusals())
    return verdict.refusals()


@pytest.fixture
def server() -> Iterator[Callable[..., str]]:
    """Serve collections: `server(status, body)` gives its address."""
    running: list[ThreadingHTTPServer] = []

    def start(status: int = 200, body: bytes = ANSWER, seen: list[tuple[str, str, bytes]] | None = None) -> str:
        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                if seen is not None:
                    seen.append((self.headers["Metergate-Timestamp"], self.headers["Metergate-Signature"], raw))
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        made = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        running.append(made)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{made.server_port}/facts"

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


@contextlib.contextmanager
def socket_that_drips() -> Iterator[str]:
    """Answer a byte now and then, for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gone = threading.Event()

        def drip() -> None:
            line, _ = listening.accept()
            with line, contextlib.suppress(OSError):
                while not gone.wait(0.05):
                    line.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        gone.set()
        thread.join()


def test_the_longest_region_and_the_very_class_choose_the_rule_set(state: State):
    sets = {name: load_rule_set(name) for name in ("uk", "us-ny", "us-md")}
    policy = desk(
        state, None, Choice("uk", "", sets["us-md"]), Choice("uk/lon", "", sets["us-ny"]),
        Choice("uk/lon", "resident", sets["uk"]),
    )  # fmt: skip
    verdicts = [judged(policy, customer) for customer in ("resident", "shop")]
    assert [each.rule_set for each in verdicts] == ["uk", "us-ny"]
    assert policy.hours("resident", "Europe/London", "uk/lon", "debt") == sets["uk"].hours("Europe/London", "debt")
    assert policy.hours("resident", "Europe/London", "fr", "debt") is None


def test_where_no_rule_set_is_named_nothing_is_withheld_and_all_is_given_back(state: State):
    policy = desk(state, None, Choice("fr", "", load_rule_set("uk")))
    says = "no rule set says when a supply may be withheld in 'uk/lon' from customers of the class 'resident'"
    assert refusals(policy) == [f"{says}: [policy] rule_sets"]
    assert judged(policy, "resident", None, of=A.RESTORE).passed


def test_without_a_class_only_a_rule_set_for_all_customers_judges(state: State):
    policy = desk(state, None, Choice("uk", "resident", load_rule_set("uk")))
    verdict = judged(policy, "")
    says = "the class of the customer at p1 is not in the registry, and no rule set is for all customers in 'uk/lon'"
    assert verdict.refusals() == [f"{says}: give the meter point its `customer`"]
    assert judged(desk(state), "").passed


def test_a_protection_that_was_entered_since_stops_what_was_allowed(state: State):
    policy = desk(state)
    assert refusals(policy) == []
    entry = Entry("e1", "protected", "p1", "life-support", NOW, None, "ventilator", "call", "token:aa")
    Registers(state).add(entry, "uk/lon", NOW)
    assert refusals(policy) == ["not protected: life-support since 2026-11-24, rule uk-5"]


def test_a_hold_of_the_region_stops_what_was_allowed(state: State):
    policy = desk(state)
    Registers(state).add(Entry("h1", "hold", "", "weather", NOW, None, "frost", "", "t", region="uk"), "uk", NOW)
    Registers(state).add(Entry("h2", "hold", "", "flood", NOW, None, "", "", "t", region="uk/dev"), "uk/dev", NOW)
    assert refusals(policy) == ["no hold: weather (frost), rule uk-6"]


def test_a_dispute_that_collections_pushed_stands_whatever_a_request_says(state: State):
    policy, book = desk(state), FactsBook(state)
    pushed = msgspec.structs.replace(FACTS, at=FACTS.at - 3600 * SECOND, disputed=True)
    book.put("p1", pushed, "token:aa", "uk/lon", NOW)
    assert refusals(policy) == ["no dispute or complaint: a dispute open, rule uk-4"]
    book.put("p1", msgspec.structs.replace(FACTS, at=FACTS.at + 1), "token:aa", "uk/lon", NOW)
    assert refusals(policy) == []
    assert refusals(policy, None) == []
    assert [link.kind for link in Trail(state).all()] == ["collection-facts", "collection-facts"]


def test_the_newer_word_counts_and_an_old_one_counts_as_no(state: State):
    policy = desk(state)
    assert together(None, None) is None
    assert refusals(policy, None)[0] == "facts at most 24 h old: collections has said nothing, rule uk-1"
    assert "facts at most 24 h old: 51.0 h, rule uk-1" in refusals(policy, FACTS, NOW + 48 * 3600 * SECOND)


@pytest.mark.parametrize(
    ("ahead_s", "said"), [(0, []), (299, []), (301, ["facts at most 24 h old: -0.1 h, rule uk-1"])]
)
def test_a_clock_of_collections_a_little_ahead_makes_no_fact_of_the_future(state: State, ahead_s: int, said: list[str]):
    facts = msgspec.structs.replace(FACTS, at=NOW + ahead_s * SECOND)
    assert refusals(desk(state), facts) == said


def test_facts_of_the_future_and_older_ones_are_not_kept(state: State):
    book = FactsBook(state)
    book.put("p1", FACTS, "token:aa", "uk", NOW)
    book.put("p1", FACTS, "token:aa", "uk", NOW)
    with pytest.raises(CollectionsError, match="are here already"):
        book.put("p1", msgspec.structs.replace(FACTS, at=FACTS.at - 1), "token:aa", "uk", NOW)
    with pytest.raises(CollectionsError, match="future"):
        book.put("p1", msgspec.structs.replace(FACTS, at=NOW + 3600 * SECOND), "token:aa", "uk", NOW)
    assert book.get("p1") == FACTS


def test_collections_is_asked_signed_and_has_the_only_word(state: State, server: Callable[..., str]):
    seen: list[tuple[str, str, bytes]] = []
    policy = desk(state, Asker(server(seen=seen), SECRET))
    assert refusals(policy, None) == []
    stamp, signature, body = seen[0]
    assert signature == sign(SECRET.encode(), stamp, body)
    assert msgspec.json.decode(body)["point"] == "p1"
    disputed = desk(state, Asker(server(body=ANSWER[:-1] + b',"disputed":true}'), SECRET))
    assert refusals(disputed) == ["no dispute or complaint: a dispute open, rule uk-4"]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (302, b"", "it answers with status 302"),
        (500, ANSWER, "it answers with status 500"),
        (200, b"{", "its answer cannot be read"),
        (200, b'{"at":"0001-01-01T00:00:00Z"}', "its answer cannot be read"),
        (200, b" " * 70_000, "its answer has more than 65536 bytes"),
    ],
    ids=["redirect", "failure", "no-json", "no-instant", "too-long"],
)
def test_an_answer_that_is_none_counts_as_no(
    state: State, server: Callable[..., str], status: int, body: bytes, says: str
):
    found = refusals(desk(state, Asker(server(status, body), SECRET)))
    assert any(each.startswith(f"collections was asked: {says}") for each in found), found


def test_collections_that_is_not_there_or_silent_counts_as_no(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headend.policy.collections.TIME_S", 0.3)
    with pytest.raises(CollectionsError, match="refused"):
        Asker("http://127.0.0.1:1/", SECRET).ask("p1")
    with socket_that_drips() as url, pytest.raises(CollectionsError):
        Asker(url, SECRET).ask("p1")


def test_collections_that_did_not_answer_is_not_waited_for_at_each_meter_of_a_campaign(
    monkeypatch: pytest.MonkeyPatch,
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(5)
        asker = Asker(f"http://127.0.0.1:{silent.getsockname()[1]}/", SECRET)
        monkeypatch.setattr("headend.policy.collections.TIME_S", 0.3)
        with pytest.raises(CollectionsError):
            asker.ask("p1")
        silent.accept()[0].close()
        for _ in range(100):
            with pytest.raises(CollectionsError, match="it is asked again within 5 s"):
                asker.ask("p2")
        silent.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            silent.accept()
        silent.settimeout(5)
        monkeypatch.setattr("headend.policy.collections.PAUSE_S", 0.0)
        later = Asker(f"http://127.0.0.1:{silent.getsockname()[1]}/", SECRET)
        for _ in range(2):
            with pytest.raises(CollectionsError):
                later.ask("p2")
            silent.accept()[0].close()


@pytest.mark.parametrize(
    "url", ["http://collections.example/", "ftp://127.0.0.1/", "https://me:pw@there/", "https:///x"]
)
def test_an_address_that_is_not_safe_is_refused(url: str):
    with pytest.raises(ConfigError) as error:
        Asker(url, SECRET)
    assert "pw" not in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "raw",
    [b'{"at":"2026-11-24T10:59:00"}', b'{"at":1}', b'{"at":"2026-11-24T10:59:00Z","owed":"-1"}', b'{"at":"x","a":1}'],
)
def test_facts_are_exact(raw: bytes):
    with pytest.raises(ValueError, match=r"at|owed|a"):
        read_facts(raw)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (("protected", "life-support"), "not protected: life-support since 2026-11-24"),
        (("hold", "manual"), "no hold: manual (ventilator)"),
        (("dispute", "meter-reading"), "no dispute or complaint: meter-reading e1 open"),
        (("payment-plan", "monthly"), "no payment plan: plan e1 is kept"),
    ],
    ids=["protected", "hold", "dispute", "payment-plan"],
)
@pytest.mark.parametrize("name", rule_set_names())
def test_an_entry_counts_under_whatever_rule_set_its_meter_point_comes(
    state: State, name: str, entry: tuple[RegisterKind, str], says: str
):
    policy = desk(state, None, Choice("uk", "", load_rule_set(name)))
    kept = Entry("e1", entry[0], "p1", entry[1], NOW, None, "ventilator", "call", "token:aa")
    Registers(state).add(kept, "uk/lon", NOW)
    assert [each for each in refusals(policy) if each.startswith(says)]


def test_a_milder_forecast_beside_a_cold_one_changes_nothing(state: State):
    policy = desk(state, None, Choice("uk", "", load_rule_set("us-md")))
    weather = [(-4, {"low_c": "-9", "high_c": "1"}), (-2, {"low_c": "9", "high_c": "12"})]
    for hours, detail in weather:
        at = NOW + hours * 3600 * SECOND
        entry = Entry(f"f{-hours}", "hold", "p1", "forecast", at, None, "", "met office", "token:aa", detail)
        Registers(state).add(entry, "uk/lon", NOW)
    assert "weather allows it: -9 to 12 degrees C, rule us-md-3" in refusals(policy)
    nothing = {"low_c": "nan", "high_c": "nan"}
    Registers(state).add(Entry("f0", "hold", "p1", "forecast", NOW, None, "", "", "token:aa", nothing), "uk/lon", NOW)
    assert "weather allows it: the forecast f0 cannot be read, rule us-md-3" in refusals(policy)
