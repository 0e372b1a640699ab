"""A story of supply commands over HTTP: each answer and each webhook request as others see it, with ids masked."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from httpx import Response

from headend.posting import Target
from headend.state.store import State as Database
from headend.supply.thresholds import Limits
from headend.webhook_sender import SIGNATURE, TIMESTAMP, Webhook, WebhookSender, sign
from headend.webhooks import Outbox
from metering.model import SECOND
from metering.supply import Action
from metering.supply_states import Cause
from metering.timing import to_rfc3339
from tests.api.example_site import Site
from tests.headend.receiver import Server, until
from tests.headend.supply.centre import START, Centre

SECRET = b"a planted secret"
OPEN = '{"output":false,"control":0,"mode":1}'
LIMITED = '{"output":true,"control":1,"mode":1,"limit_w":500}'
TRIP = "above the limit for 60 s it opens the supply; the customer closes it at the meter"


class Story:
    """What was answered, by the names of the golden files. `masks`: what is different each time, and its name there."""

    def __init__(self, site: Site, centre: Centre) -> None:
        self.site = site
        self.centre = centre
        self.answers: dict[str, Any] = {}
        self.masks: dict[str, str] = {}
        self.clerk = site.token("commands:request", "readings:read", regions=["js/nj"], person="clara")
        self.approver = site.token("commands:approve", "readings:read", regions=["js/nj"], person="anna")

    def keep(self, name: str, status: int, answer: object) -> None:
        """Keep an answer under a name."""
        self.answers[name] = {"status": status, "json": answer}

    def post(self, name: str, body: object, key: str) -> list[str]:
        """Request commands; return their ids, which are masked from now on."""
        self.centre.now += SECOND
        headers = self.clerk | {"Idempotency-Key": key}
        answer = self.site.client.post("/v1/commands", json=body, headers=headers)
        made = answer.json()
        ids = [each["id"] for each in made.get("commands", ())]
        for number, each in enumerate(ids, 1):
            self.masks[each] = f"<{name} {number}>"
        if made.get("campaign"):
            self.masks[made["campaign"]] = f"<{name} campaign>"
        self.take(name, answer)
        return ids

    def get(self, name: str, path: str, headers: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Ask, and keep the answer."""
        return self.take(name, self.site.client.get(path, headers=headers or self.clerk))

    def take(self, name: str, answer: Response) -> Any:  # noqa: ANN401 - JSON
        """Keep an answer."""
        self.keep(name, answer.status_code, answer.json())
        return answer.json()

    def signed(self, name: str, command: str) -> None:
        """Keep what approvers sign, and the bytes of it as JSON."""
        sheet = self.get(name, f"/v1/commands/{command}/signing", self.approver)
        inside = {}
        for field in ("payload", "commands"):
            raw = sheet.get(field)
            found = [raw] if isinstance(raw, str) else raw or []
            for number, each in enumerate(found):
                self.masks[each] = f"<base64 of {field}>"
                inside[f"{field} {number}"] = words = msgspec.json.decode(base64.b64decode(each))
                for secret in {"nonce", "root"} & words.keys():
                    self.masks[words[secret]] = f"<{secret}>"
        self.keep(f"{name}_bytes", 200, inside)

    def masked(self) -> dict[str, Any]:
        """Return all answers with their ids masked."""
        text = msgspec.json.encode(self.answers).decode()
        for each in sorted(self.masks, key=len, reverse=True):
            text = text.replace(each, self.masks[each])
        return dict(msgspec.json.decode(text))


def cut(*points: str, **changes: object) -> dict[str, object]:
    """Return the body of a request for disconnects."""
    orders = [{"point": each, "case": "case-7"} for each in points]
    return {"action": "disconnect", "reason": "debt", "orders": orders} | changes


def tell(site: Site, folder: Path) -> dict[str, Any]:
    """Return the whole story's answers, masked."""
    database = Database.open(folder / "supply.db")
    centre = Centre(database, Limits(user_per_hour=4))
    outbox = Outbox(database)
    outbox.subscribe("collections")
    story = Story(site, centre)
    with _served(site, centre):
        _commands(story)
        _problems(story)
    _refused(story)
    story.keep("webhook_request", 200, asyncio.run(_request(centre, outbox, story)))
    database.close()
    return story.masked()


@contextmanager
def _served(site: Site, centre: Centre) -> Iterator[None]:
    before, site.office.supply = site.office.supply, centre.desk
    yield
    site.office.supply = before


def _commands(story: Story) -> None:
    centre = story.centre
    (one,) = story.post("command_made", cut("MP-1"), "k1")
    many = story.post("campaign_made", cut("MP-2", "MP-3"), "k2")
    story.signed("signing_command", one)
    story.signed("signing_campaign", many[0])
    story.get("supply_unknown", "/v1/meter-points/MP-1/supply")
    for person in ("anna", "ben"):
        signature = centre.signed(one, person)
        headers = story.approver | {"Content-Type": "application/jose+json"}
        path = f"/v1/commands/{one}/approvals"
        story.take(f"approved_by_{person}", story.site.client.post(path, content=signature, headers=headers))
    asyncio.run(centre.step())
    for state, cause, told in (
        ("accepted", Cause.GATEWAY_ACCEPTED, {}),
        ("executing", Cause.BEGAN, {}),
        ("verified", Cause.AS_ASKED, {"after": OPEN}),
    ):
        centre.say(one, state, cause, **told)
    story.get("command", f"/v1/commands/{one}")
    story.get("commands", "/v1/commands?limit=1")
    story.get("supply_disconnected", "/v1/meter-points/MP-1/supply")
    path = f"/v1/commands/{many[1]}/cancel"
    story.take("cancelled", story.site.client.post(path, headers=story.clerk))
    back = {"action": "restore", "reason": "paid", "orders": [{"point": "MP-1", "case": "case-7"}]}
    story.post("restore_made", back, "k3")
    _limit(story)


def _limit(story: Story) -> None:
    centre, until_when = story.centre, to_rfc3339(START + 3600 * SECOND)
    body = cut("MP-5", action=str(Action.LIMIT), limit_w=500, limit_until=until_when)
    (limit,) = story.post("limit_made", body, "k4")
    centre.approve(limit, "anna", "ben")
    asyncio.run(centre.step())
    centre.say(limit, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(limit, "executing", Cause.BEGAN)
    centre.say(limit, "verified", Cause.AS_ASKED, after=LIMITED, at_trip=TRIP)
    story.get("supply_limited", "/v1/meter-points/MP-5/supply")


def _problems(story: Story) -> None:
    client, centre = story.site.client, story.centre
    story.post("problem_action", cut("MP-4", action="explode"), "p1")
    story.post("problem_meter_point", cut("MP-77"), "p2")
    story.post("problem_key_reused", cut("MP-4"), "k1")
    story.post("problem_command_open", cut("MP-2"), "p3")
    (held, _) = story.post("quarantined_made", cut("MP-4", "MP-5", spread_s=600), "p4")
    path = f"/v1/commands/{held}"
    headers = story.approver | {"Content-Type": "application/jose+json"}
    signature = centre.signed(held, "anna")
    story.take("problem_quarantined", client.post(f"{path}/approvals", content=signature, headers=headers))
    story.take("quarantined_released", client.post(f"{path}/release", headers=story.approver))
    story.take("problem_not_signed", client.post(f"{path}/approvals", content=b"{}", headers=headers))
    centre.say("forged", "refused-by-guard", Cause.GUARD_REFUSED)


def _refused(story: Story) -> None:
    """Ask for what the rules of Maryland refuse."""
    headers = story.site.token("commands:request") | {"Idempotency-Key": "k1"}
    story.take("problem_policy", story.site.client.post("/v1/commands", json=cut("p1"), headers=headers))


async def _request(centre: Centre, outbox: Outbox, story: Story) -> dict[str, Any]:
    """Return the request of a webhook: its headers, and its messages with the signature checked as a receiver does."""
    server = Server()
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    target = Target.parse(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/hooks")
    hook = Webhook("collections", target, SECRET, frozenset(("command", "alert")))
    stop = asyncio.Event()
    task = asyncio.create_task(WebhookSender(outbox, [hook], lambda: centre.now).run(stop))
    await until(lambda: not outbox.depth("collections"))
    stop.set()
    await task
    listening.close()
    (asked,) = server.asked
    headers = {name: asked.headers[name] for name in ("Content-Type", TIMESTAMP, SIGNATURE)}
    assert headers[SIGNATURE] == sign(SECRET, headers[TIMESTAMP], asked.body)
    headers[SIGNATURE] = f"v1=<hex of {len(headers[SIGNATURE]) - 3}>"
    body = msgspec.json.decode(asked.body)
    for each in body["events"]:
        story.masks[each["id"]] = "<message>"
    return {"line": asked.line, "headers": headers, "body": body}
