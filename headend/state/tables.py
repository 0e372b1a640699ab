"""The tables as they stand after the last migration, those of the registry apart, which stand in `registry_tables`.

Definitions only; the steps to them stand in `migrations`. Instants are microseconds, UTC. Ranges of
seqs are inclusive, as in receipts.
"""

import sqlalchemy as sa

from headend.kpi.figures import FIELDS
from headend.state import registry_tables
from headend.state.registry_tables import NAME

COUNTER = 256  # of a counter: a device, and what tells key and client apart
TOKEN_NAME = 100

metadata = registry_tables.metadata  # one for both: whoever makes or checks a database takes it from here

committed_seqs = sa.Table(
    "committed_seqs",
    metadata,
    sa.Column("gateway", sa.String(NAME), primary_key=True),
    sa.Column("epoch", sa.String(NAME), primary_key=True),
    sa.Column("ordinal", sa.Integer, nullable=False),  # epochs of a gateway in the order in which they came
    sa.Column("hash", sa.BigInteger, nullable=False),  # of the gateway; modulo the partitions it is its partition
    sa.Column("ranges", sa.Text, nullable=False),  # JSON list of pairs, half-open
    sa.Column("check_seq", sa.BigInteger),  # the highest seq and the CRC-32 of its record
    sa.Column("check_crc", sa.BigInteger),
)

partitions = sa.Table(
    "partitions",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String(NAME), nullable=False),  # a head-end of `head_ends`; empty: nobody's
    sa.Column("fence", sa.BigInteger, nullable=False),  # counted up each time that the partition is taken
)

head_ends = sa.Table(
    "head_ends",
    metadata,
    sa.Column("id", sa.String(NAME), primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False),  # counted up while it lives
)

gaps = sa.Table(
    "gaps",
    metadata,
    sa.Column("device", sa.String(NAME), primary_key=True),
    sa.Column("profile", sa.String(NAME), primary_key=True),
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("end", sa.BigInteger, nullable=False),
    sa.Column("day", sa.Integer, nullable=False),  # whose figures it belongs to
    sa.Column("gateway", sa.String(NAME), nullable=False, index=True),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("ask", sa.String(64), nullable=False),  # id of the control that asks; empty: a new one next time
    sa.Column("answer", sa.String(32), nullable=False),  # what the gateway said to the last one
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("asked_at", sa.BigInteger),
    sa.Column("next_at", sa.BigInteger, index=True),  # when to ask; null: nobody is asked
)

seq_gaps = sa.Table(
    "seq_gaps",
    metadata,
    sa.Column("gateway", sa.String(NAME), primary_key=True),
    sa.Column("epoch", sa.String(NAME), primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("readings", sa.BigInteger, nullable=False),  # values gone, as far as they were counted
    sa.Column("earliest", sa.BigInteger),  # measured_at among them
    sa.Column("latest", sa.BigInteger),
)

collection_days = sa.Table(
    "collection_days",
    metadata,
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("device", sa.String(NAME), primary_key=True),
    sa.Column("point", sa.String(NAME), nullable=False),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("gateway", sa.String(NAME), nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in FIELDS),
    sa.Column("buckets", sa.LargeBinary, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),  # JSON: slots lost by reason
    sa.Column("clock_ms", sa.BigInteger),
    sa.Column("due", sa.BigInteger, index=True),  # when it is to be judged again; null: never
)

collection_progress = sa.Table(
    "collection_progress",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("day", sa.Integer, nullable=False),  # the next day to be judged for the first time,
    sa.Column("after", sa.String(NAME), nullable=False),  # for the devices after this one
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(COUNTER), primary_key=True),  # device, keyed digest of the key, client system title
    sa.Column("device", sa.String(NAME), nullable=False, index=True),
    sa.Column("gateway", sa.String(NAME), nullable=False, index=True),  # that reported it last
    sa.Column("until", sa.BigInteger, nullable=False),  # the first value that was not reserved
)

transport_keys = sa.Table(
    "transport_keys",
    metadata,
    sa.Column("gateway", sa.String(NAME), primary_key=True),
    sa.Column("public", sa.String(64), nullable=False),  # hex
    sa.Column("at", sa.BigInteger, nullable=False),
)

key_bundles = sa.Table(
    "key_bundles",
    metadata,
    sa.Column("device", sa.String(NAME), primary_key=True),
    sa.Column("gateway", sa.String(NAME), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # only that gateway can open it
    sa.Column("refused", sa.Text, nullable=False),
)

key_leases = sa.Table(
    "key_leases",
    metadata,
    sa.Column("device", sa.String(NAME), primary_key=True),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("holder", sa.String(NAME), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("floor", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("next_at", sa.BigInteger, index=True),  # when the holder is to be asked; null: nothing is owed
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(8), primary_key=True),
    sa.Column("name", sa.String(TOKEN_NAME), nullable=False),
    sa.Column("person", sa.String(TOKEN_NAME), nullable=False),  # whose it is
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),  # JSON list
    sa.Column("regions", sa.Text, nullable=False),  # JSON list
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("kind", sa.String(NAME), nullable=False),
    sa.Column("subject", sa.String(NAME), nullable=False, index=True),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # JSON, as it was hashed
    sa.Column("prev", sa.LargeBinary(32), nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
)

# Always empty: in PostgreSQL whoever appends to the audit locks it first, and so has its turn (`State.write_in_turn`).
audit_turn = sa.Table("audit_turn", metadata, sa.Column("id", sa.Integer, primary_key=True))
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(32), nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("point", sa.String(NAME), nullable=False),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # JSON
    sa.Index("outbox_point", "point", "seq"),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("name", sa.String(NAME), primary_key=True),
    sa.Column("after", sa.BigInteger, nullable=False),  # the seq of the outbox up to which it has everything
    sa.Column("owner", sa.String(NAME), nullable=False),  # the head-end that sends,
    sa.Column("until", sa.BigInteger, nullable=False),  # until this instant
)

webhook_aside = sa.Table(
    "webhook_aside",
    metadata,
    sa.Column("webhook", sa.String(NAME), primary_key=True),
    sa.Column("point", sa.String(NAME), primary_key=True),  # whose next message failed
    sa.Column("after", sa.BigInteger, nullable=False),  # the seq up to which the webhook has all of it
    sa.Column("tries", sa.Integer, nullable=False),  # that failed, of the next message
    sa.Column("until", sa.BigInteger, nullable=False),  # when it is tried again
)

register_entries = sa.Table(
    "register_entries",
    metadata,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("point", sa.String(NAME), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger),  # null: until further notice
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),  # who added it
    sa.Column("detail", sa.Text, nullable=False),  # JSON: plain strings
    sa.Column("region", sa.Text, nullable=False, index=True),  # of a hold for all of a region; empty: for a meter point
    sa.Column("added_at", sa.BigInteger, nullable=False),
    sa.Column("end_asked_by", sa.Text, nullable=False),  # who asked for its end; empty: nobody
    sa.Column("end_asked_person", sa.Text, nullable=False),  # whose token that is
    sa.Column("end_asked_at", sa.BigInteger),
    sa.Column("end_reason", sa.Text, nullable=False),
    sa.Column("ended_by", sa.Text, nullable=False),  # empty: it ends by itself, if at all
)

collection_facts = sa.Table(
    "collection_facts",
    metadata,
    sa.Column("point", sa.String(NAME), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),  # as of when collections said it
    sa.Column("body", sa.Text, nullable=False),  # JSON
    sa.Column("by", sa.Text, nullable=False),
)

held_back = sa.Table(
    "held_back",
    metadata,
    sa.Column("gateway", sa.String(NAME), primary_key=True),
    sa.Column("epoch", sa.String(NAME), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("device", sa.String(NAME), nullable=False),
    sa.Column("source", sa.String(32), nullable=False),
    sa.Column("measured_at", sa.BigInteger, nullable=False),
    sa.Column("held_at", sa.BigInteger, nullable=False),
    sa.Column("offset", sa.BigInteger),  # how far ahead the gateway's clock was
    sa.Column("readings", sa.Integer, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),  # a packed batch of the block as it came
    sa.Column("action", sa.String(32), nullable=False, index=True),  # empty while nothing is decided
    sa.Column("shift", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("done_at", sa.BigInteger),
)

commands = sa.Table(
    "commands",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("point", sa.String(NAME), nullable=False, index=True),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("gateway", sa.String(NAME), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("counts_as", sa.String(32), nullable=False),  # the action that thresholds count it among
    sa.Column("state", sa.String(32), nullable=False, index=True),
    sa.Column("token", sa.String(8), nullable=False),  # of the requester
    sa.Column("requester", sa.String(TOKEN_NAME), nullable=False),  # whose token that is
    sa.Column("campaign", sa.String(64), nullable=False, index=True),  # empty: a single command
    sa.Column("body", sa.LargeBinary, nullable=False),  # canonical; never changes
    sa.Column("proof", sa.LargeBinary, nullable=False),  # MessagePack: to its campaign's root
    sa.Column("signed", sa.LargeBinary, nullable=False),  # JWS with the signatures so far
    sa.Column("facts", sa.Text, nullable=False),  # JSON: what collections said with the request
    sa.Column("requested_at", sa.BigInteger, nullable=False),
    sa.Column("not_before", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("cause", sa.String(32), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),  # JSON: what the gateway told last
    sa.Column("sent_at", sa.BigInteger, nullable=False),
    sa.Column("sent", sa.Integer, nullable=False),  # times
    sa.Column("renews", sa.String(64), nullable=False),  # the command in whose place it was made; empty: none
    sa.Column("tries", sa.Integer, nullable=False),  # how many were before it
    sa.Column("renew_at", sa.BigInteger, nullable=False, index=True),  # when it is made anew; 0: it is not
    sa.Column("gives_back", sa.Boolean, nullable=False),  # by its action: goes before what withholds
    sa.Column("due_at", sa.BigInteger, nullable=False),  # when dispatch looks at it next; 0: it does not
    sa.Index("ix_commands_due", "gives_back", "due_at", "id"),
    sa.Index("ix_commands_gateway_due", "gateway", "due_at"),
    sa.Index("ix_commands_counted", "counts_as", "requested_at"),
)

reminded = sa.Table(
    "reminded",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),  # a command or a campaign that waits for a signature
    sa.Column("at", sa.BigInteger, nullable=False),  # when an alert told so
)

campaigns = sa.Table(
    "campaigns",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),  # canonical manifest
    sa.Column("signed", sa.LargeBinary, nullable=False),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("token", sa.String(8), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),  # Idempotency-Key
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("command", sa.String(64), nullable=False),
    sa.Column("campaign", sa.String(64), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)

command_numbers = sa.Table(
    "command_numbers",
    metadata,
    sa.Column("gateway", sa.String(NAME), primary_key=True),
    sa.Column("last", sa.BigInteger, nullable=False),
)
