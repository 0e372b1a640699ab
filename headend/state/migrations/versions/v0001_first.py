"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    _registry()
    _gateways()
    _gaps()
    _configuration()
    _access_and_audit()
    _webhooks()
    _held_back()
    _supply()
    _append_only("audit")
    _policy()


def _registry() -> None:
    op.create_table(
        "registry_revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO registry_revision (id, number) VALUES (1, 0)")
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("enrolled_at", sa.BigInteger),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("epoch", sa.String(128), nullable=False),
        sa.Column("boot", sa.String(128), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("last_seen", sa.BigInteger),
        sa.Column("config_version", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(40), primary_key=True),
        sa.Column("gateway", sa.String(128), nullable=False, index=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("pem", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "enrolment_tokens",
        sa.Column("hash", sa.LargeBinary(32), primary_key=True),
        sa.Column("gateway", sa.String(128), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
        sa.Column("used_by", sa.String(64), nullable=False),
    )
    op.create_table(
        "points",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("zone", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("customer", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("gateway", sa.String(128), nullable=False),
        sa.Column("maker", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("memory_days", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "installations",
        sa.Column("device", sa.String(128), sa.ForeignKey("devices.id"), primary_key=True),
        sa.Column("valid_from", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("point", sa.String(128), sa.ForeignKey("points.id"), nullable=False, index=True),
        sa.Column("body", sa.Text, nullable=False),
    )


def _gateways() -> None:
    op.create_table(
        "assignments",
        sa.Column("device", sa.String(128), primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("gateway", sa.String(128), nullable=False, index=True),
    )
    op.create_table(
        "committed_seqs",
        sa.Column("gateway", sa.String(128), primary_key=True),
        sa.Column("epoch", sa.String(128), primary_key=True),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("hash", sa.BigInteger, nullable=False),
        sa.Column("ranges", sa.Text, nullable=False),
        sa.Column("check_seq", sa.BigInteger),
        sa.Column("check_crc", sa.BigInteger),
    )
    op.create_table(
        "partitions",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "head_ends",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )


def _gaps() -> None:
    op.create_table(
        "gaps",
        sa.Column("device", sa.String(128), primary_key=True),
        sa.Column("profile", sa.String(128), primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("gateway", sa.String(128), nullable=False, index=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("ask", sa.String(64), nullable=False),
        sa.Column("answer", sa.String(32), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("asked_at", sa.BigInteger),
        sa.Column("next_at", sa.BigInteger, index=True),
    )
    op.create_table(
        "seq_gaps",
        sa.Column("gateway", sa.String(128), primary_key=True),
        sa.Column("epoch", sa.String(128), primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("readings", sa.BigInteger, nullable=False),
        sa.Column("earliest", sa.BigInteger),
        sa.Column("latest", sa.BigInteger),
    )
    _collection()


def _configuration() -> None:
    op.create_table(
        "configs",
        sa.Column("gateway", sa.String(128), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(256), primary_key=True),
        sa.Column("device", sa.String(128), nullable=False, index=True),
        sa.Column("gateway", sa.String(128), nullable=False, index=True),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "transport_keys",
        sa.Column("gateway", sa.String(128), primary_key=True),
        sa.Column("public", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "key_bundles",
        sa.Column("device", sa.String(128), primary_key=True),
        sa.Column("gateway", sa.String(128), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("refused", sa.Text, nullable=False),
    )
    op.create_table(
        "key_leases",
        sa.Column("device", sa.String(128), primary_key=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("floor", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_at", sa.BigInteger, index=True),
    )


def _access_and_audit() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("person", sa.String(100), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("regions", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        if_not_exists=True,  # a site that had tokens before it had a head-end state keeps them
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("kind", sa.String(128), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False, index=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("prev", sa.LargeBinary(32), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
    )
    op.create_table("audit_turn", sa.Column("id", sa.Integer, primary_key=True))


def _webhooks() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("point", sa.String(128), nullable=False),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Index("outbox_point", "point", "seq"),
    )
    op.create_table(
        "webhooks",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("after", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "webhook_aside",
        sa.Column("webhook", sa.String(128), primary_key=True),
        sa.Column("point", sa.String(128), primary_key=True),
        sa.Column("after", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )


def _held_back() -> None:
    op.create_table(
        "held_back",
        sa.Column("gateway", sa.String(128), primary_key=True),
        sa.Column("epoch", sa.String(128), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("device", sa.String(128), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("measured_at", sa.BigInteger, nullable=False),
        sa.Column("held_at", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger),
        sa.Column("readings", sa.Integer, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("action", sa.String(32), nullable=False, index=True),
        sa.Column("shift", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("done_at", sa.BigInteger),
    )


def _supply() -> None:
    op.create_table(
        "commands",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("point", sa.String(128), nullable=False, index=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("gateway", sa.String(128), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("counts_as", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False, index=True),
        sa.Column("token", sa.String(8), nullable=False),
        sa.Column("requester", sa.String(100), nullable=False),
        sa.Column("campaign", sa.String(64), nullable=False, index=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("proof", sa.LargeBinary, nullable=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.String(32), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("renews", sa.String(64), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("renew_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("gives_back", sa.Boolean, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Index("ix_commands_due", "gives_back", "due_at", "id"),
        sa.Index("ix_commands_gateway_due", "gateway", "due_at"),
        sa.Index("ix_commands_counted", "counts_as", "requested_at"),
    )
    op.create_table(
        "reminded",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("token", sa.String(8), primary_key=True),
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("command", sa.String(64), nullable=False),
        sa.Column("campaign", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "command_numbers",
        sa.Column("gateway", sa.String(128), primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
    )


def _append_only(table: str) -> None:
    """Have the database itself refuse to change or remove a row."""
    if op.get_context().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
    )


def _policy() -> None:
    op.create_table(
        "register_entries",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("point", sa.String(128), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("region", sa.Text, nullable=False, index=True),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("end_asked_by", sa.Text, nullable=False),
        sa.Column("end_asked_person", sa.Text, nullable=False),
        sa.Column("end_asked_at", sa.BigInteger),
        sa.Column("end_reason", sa.Text, nullable=False),
        sa.Column("ended_by", sa.Text, nullable=False),
    )
    op.create_table(
        "collection_facts",
        sa.Column("point", sa.String(128), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    )


def _collection() -> None:
    counts = ("expected", "held", "recovered", "no_supply", "lost", "first_try")
    within = ("within_900", "within_3600", "within_14400", "within_86400")
    op.create_table(
        "collection_days",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("device", sa.String(128), primary_key=True),
        sa.Column("point", sa.String(128), nullable=False),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("gateway", sa.String(128), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in (*counts, *within)),
        sa.Column("buckets", sa.LargeBinary, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("clock_ms", sa.BigInteger),
        sa.Column("due", sa.BigInteger, index=True),
    )
    op.create_table(
        "collection_progress",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("after", sa.String(128), nullable=False),
    )
