"""A head-end's sender as a process of its own, to be killed: the state, the port, and its webhook's name."""

import asyncio
import sys
from pathlib import Path

from headend import webhook_sender, webhooks
from headend.posting import Target
from headend.state.store import State
from headend.webhook_sender import Webhook, WebhookSender
from headend.webhooks import Outbox


async def main() -> None:
    state, port, name = sys.argv[1:]
    webhook_sender.LOOK_S = webhook_sender.FIRST_PAUSE_S = 0.02
    webhook_sender.LONGEST_PAUSE_S = 0.1
    webhooks.LEASE_S = 2  # what a kill leaves is soon over, and two of them often meet
    target = Target.parse(f"http://127.0.0.1:{port}/")
    hook = Webhook(name, target, b"a planted secret", frozenset(("command",)))
    await WebhookSender(Outbox(State.open(Path(state))), [hook]).run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main())
