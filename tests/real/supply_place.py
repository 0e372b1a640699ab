"""A head-end, a broker behind TLS and a gateway with simulated meters that can be switched, and people who sign."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import httpx
from paho.mqtt import client as paho

from api.app import create_app
from headend.authority import key_of_private, new_key
from headend.tokens import TokenBook
from metergate.centre import Centre, build
from metergate.commands import audit, registry_keys, sign
from metergate.commands.registry import take_in
from metergate.demo_supply import RULES
from metergate.edge import EdgeParts
from metergate.headend_file import load_headend, open_authority, open_state
from metergate.http import bind, serve
from metergate.site import SiteFile
from metering import timing, wire
from metering.model import SECOND
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from simulators.broker import MosquittoBroker, find_mosquitto, free_port
from tests.faults.site_process import until
from tests.gateway.supply.edge import ADDRESS, Desk, Street, keys_of, tables
from trust import document as trusted
from trust.keys import SigningKey
from trust.signatures import Kind
from trust.signatures import sign as signed_by

ACL = Path(__file__).parents[2] / "config" / "mosquitto" / "metergate.acl"
HEADEND = "metergate.headend"
SCOPES = {
    "clerk": ["commands:request", "readings:read", "audit:read"],
    "anna": ["commands:approve"],
    "ben": ["commands:approve"],
}
POINTS = {"modbus": "MP-1", "dlms": "MP-2", "dlt645": "MP-3"}
SERIALS = {"modbus": "SW-000017", "dlms": "70000123", "dlt645": ADDRESS}
PROFILES = {"modbus": "example_switched", "dlms": "dlms_generic", "dlt645": "dlt645_2007_3p"}
DAY = 86_400 * SECOND


class SupplyPlace:
    """All of it in this process, but for the broker: each speaks with the others over TLS alone."""

    def __init__(self, folder: Path, **document: Any) -> None:  # noqa: ANN401 - any field of the trust document
        assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
        self.folder = folder
        self.edge = folder / "edge"
        self.street = Street()
        self._document = document
        self.file = folder / "headend.toml"
        self.stop = asyncio.Event()
        self._port = free_port()
        self._api = f"127.0.0.1:{free_port()}"
        self._stack = AsyncExitStack()
        self.desk: Desk
        self.parts: EdgeParts
        self.centre: Centre

    async def __aenter__(self) -> Self:
        await self.street.open()
        self._stack.push_async_callback(self.street.close)
        self.desk = Desk(self.street, **self._document)
        self._write()
        await self._start_broker()
        self.centre = build(load_headend(self.file))
        self._stack.callback(self.centre.close)
        self.parts = EdgeParts(SiteFile.model_validate(self._site()))
        self._stack.callback(self.parts.log.close)
        app = create_app(self.centre.office, self.centre.fleet)
        listening = bind(self.centre.file.api)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.callback(self._end)
        group.create_task(self.centre.run(lambda stop: serve(app, listening, self.centre.file.api, stop)))
        group.create_task(self.parts.run(self.stop))
        self.client = await self._stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://{self._api}", trust_env=False, timeout=60)
        )
        await until(self._stands, "the gateway at the head-end")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _end(self) -> None:
        self.stop.set()
        self.centre.stop.set()

    # --- files --------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        folder = self.folder
        for name in ("payments", "audit"):
            key = self.desk.keys.get(name) or SigningKey.generate()
            key.save(folder / f"{name}.pem")
        for name in ("anna", "ben"):
            self.desk.keys[name].save(folder / f"{name}.pem")
        tls = self._tls(HEADEND)
        self.file.write_text(
            f'[headend]\ndata = "{folder / "centre"}"\n[api]\nlisten = "{self._api}"\n[broker]\n{tls}'
            f'[enrolment]\nca_cert = "{folder / "ca.pem"}"\nca_key = "file:{folder / "ca.key"}"\n'
            f'[audit]\nkey = "file:{folder / "audit.pem"}"\n'
            f'[supply]\ntrust = "{folder / "trust"}"\nservice_key = "{folder / "payments.pem"}"\n'
            f'[policy]\nfolder = "{RULES}"\nrule_sets = [{{ region = "js", rule_set = "demo" }}]\n'
        )
        registry_keys.make_authority(self.file)
        registry_keys.make_certificate(self.file, "broker", folder, ["127.0.0.1"])
        registry_keys.make_certificate(self.file, HEADEND, folder, [])
        for gateway in ("gw1", "gw2"):
            self._certify(gateway)
        fleet = folder / "fleet.toml"
        fleet.write_text('[[gateway]]\nid = "gw1"\n' + "".join(self._meter(device) for device in POINTS))
        take_in(self.file, fleet)
        self.edge.mkdir()
        keys_of(self.edge)
        self.desk.install(self.edge)
        (folder / "trust").mkdir()
        custodians = [self.desk.keys["dora"], self.desk.keys["emil"]]
        copy = signed_by(trusted.canonical(self.desk.document), Kind.TRUST, custodians)
        (folder / "trust" / "gw1.json").write_bytes(copy)
        state = open_state(load_headend(self.file))
        book = TokenBook(state)
        self.tokens = {name: book.create(name, scopes, ["js"]) for name, scopes in SCOPES.items()}
        self.tokens["auditor"] = book.create("auditor", ["audit:read"], [""])
        state.close()

    def _certify(self, gateway: str) -> None:
        """Give a gateway its certificate, as `metergate enrol` would."""
        enrolment = load_headend(self.file).enrolment
        assert enrolment is not None
        pem = new_key()
        (self.folder / f"{gateway}.key").write_bytes(pem)
        made = open_authority(enrolment).sign(gateway, key_of_private(pem), timing.now())
        (self.folder / f"{gateway}.pem").write_text(made.pem)

    def _tls(self, name: str) -> str:
        folder = self.folder
        return (
            f'host = "127.0.0.1"\nport = {self._port}\nca_file = "{folder / "ca.pem"}"\n'
            f'cert_file = "{folder / name}.pem"\nkey_file = "{folder / name}.key"\n'
        )

    def _meter(self, device: str) -> str:
        return (
            f'[[meter]]\nid = "{device}"\ngateway = "gw1"\nprofile = "{PROFILES[device]}"\npoint = "{POINTS[device]}"\n'
            f'region = "js/nj"\nserial = "{SERIALS[device]}"\n'
        )

    def _site(self) -> dict[str, Any]:
        made = tables(self.edge, self.street.ports)
        made["gateway"] |= {"jitter": "100ms", "log": {"commit_every": "200ms"}}
        made["uplink"] = {
            "host": "127.0.0.1",
            "port": self._port,
            "ca_file": str(self.folder / "ca.pem"),
            "cert_file": str(self.folder / "gw1.pem"),
            "key_file": str(self.folder / "gw1.key"),
        }
        return made

    async def _start_broker(self) -> None:
        folder = self.folder
        broker = MosquittoBroker(
            self._port,
            extra=f"certfile {folder}/broker.pem\nkeyfile {folder}/broker.key\ncafile {folder}/ca.pem\n"
            f"require_certificate true\nuse_identity_as_username true\nallow_anonymous false\nacl_file {ACL}",
        )
        await broker.start()
        self._stack.push_async_callback(broker.stop)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _stands(self) -> bool:
        try:
            return "gw1" in self.centre.intake.gateways and (await self.client.get("/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    async def ask(self, who: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """Ask the API as one of the tokens; with a body it is a POST."""
        headers["Authorization"] = f"Bearer {self.tokens[who]}"
        if body is None:
            return await self.client.get(path, headers=headers)
        if isinstance(body, bytes):
            return await self.client.post(path, content=body, headers=headers)
        return await self.client.post(path, json=body, headers=headers)

    async def request(self, action: str, reason: str, device: str = "dlms", **more: object) -> httpx.Response:
        """Request a command for the point of a meter."""
        order = {"point": POINTS[device], "case": "C-7", **more}
        body = {"action": action, "reason": reason, "orders": [order]}
        key = f"{action}-{timing.now()}"
        return await self.ask("clerk", "/v1/commands", body, **{"Idempotency-Key": key})

    async def approve(self, name: str, who: str) -> Mapping[str, Any]:
        """Approve a command as a person does: the sheet, `metergate key sign`, and the signature back."""
        sheet = self.folder / f"{name}.{who}.sheet"
        sheet.write_bytes((await self.ask(who, f"/v1/commands/{name}/signing")).content)
        out = self.folder / f"{name}.{who}.signed"
        await asyncio.to_thread(sign.sign_sheet, self.folder / f"{who}.pem", sheet, out, None, yes=True)
        answer = await self.ask(who, f"/v1/commands/{name}/approvals", out.read_bytes())
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def state_of(self, name: str) -> str:
        """Return the state of a command at the head-end."""
        return str((await self.ask("clerk", f"/v1/commands/{name}")).json()["state"])

    async def reaches(self, name: str, state: str) -> None:
        """Wait until a command is in a state at the head-end."""

        async def there() -> bool:
            return await self.state_of(name) == state

        await until(there, f"{name} {state}")

    async def audit_of(self, subject: str) -> list[dict[str, Any]]:
        """Return the audit's entries about a command, in their order."""
        answer = await self.ask("auditor", f"/v1/audit?subject={subject}&limit=1000")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["entries"])

    def verify(self) -> int:
        """Verify the audit as `metergate audit verify --from-log` does: 0, or how much is wrong."""
        return audit.run_verify(self.file, None, [], from_log=True)

    # --- who attacks --------------------------------------------------------------------------------------------------

    def attacker(
        self, identity: str = HEADEND, on_message: Callable[[paho.MQTTMessage], object] = repr
    ) -> MqttConnection:
        """Return a connection of its own with somebody's stolen certificate."""
        folder = self.folder
        settings = MqttSettings(
            "127.0.0.1",
            f"attacker-{identity}",
            self._port,
            ca_file=folder / "ca.pem",
            cert_file=folder / f"{identity}.pem",
            key_file=folder / f"{identity}.key",
        )
        return MqttConnection(settings, on_message)


def facts(delivered_days: int = 14) -> dict[str, object]:
    """Return what collections says of a debt, whose notice arrived so many days ago."""
    now = timing.now()
    notices = [
        {"id": kind, "kind": kind, "delivered_at": timing.to_rfc3339(now - days * DAY), "channel": "letter"}
        for kind, days in (("demand", 45), ("notice", delivered_days))
    ]
    return {"at": timing.to_rfc3339(now), "owed": "321.50", "currency": "EUR", "notices": notices}


def command_topic(gateway: str = "gw1") -> str:
    """Return where a gateway listens for commands."""
    return wire.topic(gateway, "commands")


def body_of(entry: Mapping[str, Any]) -> str:
    """Return an audit entry's body as text, to be searched."""
    return json.dumps(entry["body"])
