"""The whole way of a supply command over a real broker with TLS: request, policy, approvals, meter, payment, audit."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.site_process import until
from tests.real.supply_place import SupplyPlace, facts

pytestmark = pytest.mark.real
ENERGY = "1-0:1.8.0*255"


async def registers(place: SupplyPlace) -> list[dict[str, Any]]:
    """Return the running totals that were taken for commands."""
    answer = await place.ask("clerk", f"/v1/devices/dlms/readings?obis={ENERGY}&kind=register&limit=1000")
    return [row for row in answer.json()["readings"] if row["source"] == "command"]


async def test_a_debt_cuts_a_supply_and_a_payment_brings_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    async with SupplyPlace(tmp_path) as place:
        early = await place.request("disconnect", "debt", facts=facts(delivered_days=5))
        assert early.status_code == 422
        problem = early.json()
        assert early.headers["content-type"] == "application/problem+json"
        assert problem["reasons"] == ["notice 7 days before: delivered 5 days ago, rule demo-4"]
        nothing_said = (await place.request("disconnect", "debt")).json()
        assert "collections has said nothing" in nothing_said["detail"]

        made = await place.request("disconnect", "debt", facts=facts())
        assert made.status_code == 201, made.text
        (command,) = made.json()["commands"]
        name = command["id"]
        assert (command["state"], command["missing"]) == ("awaiting-approval", ["2 approvals"])
        (waiting,) = (await place.approve(name, "anna"))["commands"]
        assert waiting["missing"] == ["1 of the approvers signed it; 2 are needed"]
        assert place.street.on("dlms")
        await place.approve(name, "ben")
        await place.reaches(name, "verified")
        assert not place.street.on("dlms")

        async def before_and_after() -> bool:
            return len(await registers(place)) >= 2

        await until(before_and_after, "the registers before and after")
        supply = (await place.ask("clerk", "/v1/meter-points/MP-2/supply")).json()
        assert (supply["state"], supply["case"], supply["command"]) == ("disconnected", "C-7", name)

        paid = (await place.request("restore", "paid")).json()
        (back,) = paid["commands"]
        assert paid["signing"] is None
        await place.reaches(back["id"], "verified")
        assert place.street.on("dlms")
        assert (await place.ask("clerk", "/v1/meter-points/MP-2/supply")).json()["state"] == "connected"

        entries = await place.audit_of(name)
        kinds = [each["kind"] for each in entries]
        assert [each["body"] for each in entries if each["kind"] == "command-told"] == []
        assert [kind for kind in kinds if kind != "go"] == [  # how often it is asked for a go is a matter of time
            "command-requested",
            "command-awaiting-approval",
            "approval",
            "approval",
            "command-approved",
            "command-queued",
            "command-sent",
            "command-accepted",
            "command-executing",
            "command-verified",
        ]
        (told,) = [each["body"] for each in await place.audit_of(name) if each["kind"] == "command-verified"]
        states = [json.loads(told[when]) for when in ("before", "after")]
        assert [(each["output"], each["control"]) for each in states] == [(True, 1), (False, 0)]
    assert place.verify() == 0, capsys.readouterr().out
    assert ": whole" in capsys.readouterr().out
