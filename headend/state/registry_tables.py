"""The registry's tables as they stand after the last migration, and what holds all tables together. Definitions only.

Instants are microseconds, UTC.
"""

import sqlalchemy as sa

NAME = 128  # characters of an id

metadata = sa.MetaData()

revision = sa.Table(
    "registry_revision",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1
    sa.Column("number", sa.BigInteger, nullable=False),  # counted up with every change of the registry
)

gateways = sa.Table(
    "gateways",
    metadata,
    sa.Column("id", sa.String(NAME), primary_key=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("enrolled_at", sa.BigInteger),
    sa.Column("fingerprint", sa.String(64), nullable=False),  # SHA-256 of the pinned certificate, hex
    sa.Column("revoked_at", sa.BigInteger),
    sa.Column("epoch", sa.String(NAME), nullable=False),
    sa.Column("boot", sa.String(NAME), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("last_seen", sa.BigInteger),
    sa.Column("config_version", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),  # of the registry, when it was created, enrolled or revoked
)

certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column("serial", sa.String(40), primary_key=True),  # hex
    sa.Column("gateway", sa.String(NAME), nullable=False, index=True),
    sa.Column("key", sa.String(64), nullable=False),  # SHA-256 of the public key (SubjectPublicKeyInfo), hex
    sa.Column("pem", sa.Text, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("revoked_at", sa.BigInteger),
)

enrolment_tokens = sa.Table(
    "enrolment_tokens",
    metadata,
    sa.Column("hash", sa.LargeBinary(32), primary_key=True),  # SHA-256 of the token
    sa.Column("gateway", sa.String(NAME), nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("used_at", sa.BigInteger),
    sa.Column("used_by", sa.String(64), nullable=False),  # the SHA-256 of the public key that it was used for
)

points = sa.Table(
    "points",
    metadata,
    sa.Column("id", sa.String(NAME), primary_key=True),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("zone", sa.String(64), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("customer", sa.String(64), nullable=False),  # class, as rule sets have it; empty: not said
    sa.Column("revision", sa.BigInteger, nullable=False),
)

devices = sa.Table(
    "devices",
    metadata,
    sa.Column("id", sa.String(NAME), primary_key=True),
    sa.Column("serial", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("gateway", sa.String(NAME), nullable=False),  # of its last assignment
    sa.Column("maker", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("memory_days", sa.Integer, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),  # also of its installations and assignments
)

installations = sa.Table(
    "installations",
    metadata,
    sa.Column("device", sa.String(NAME), sa.ForeignKey("devices.id"), primary_key=True),
    sa.Column("valid_from", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("point", sa.String(NAME), sa.ForeignKey("points.id"), nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),  # JSON of metering.model.Installation
)

assignments = sa.Table(
    "assignments",
    metadata,
    sa.Column("device", sa.String(NAME), primary_key=True),
    sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("until", sa.BigInteger),
    sa.Column("gateway", sa.String(NAME), nullable=False, index=True),
)

configs = sa.Table(
    "configs",
    metadata,
    sa.Column("gateway", sa.String(NAME), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),  # when it was put here
    sa.Column("reason", sa.Text, nullable=False),  # why it was refused or rolled back
)
