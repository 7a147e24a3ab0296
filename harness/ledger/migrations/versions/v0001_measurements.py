"""Sessions, series and what was measured of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = depends_on = None
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "artifact",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("nbytes", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artifact"),
        sa.UniqueConstraint("key", name="uq_artifact_key"),
    )
    op.create_table(
        "gpu",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gpu"),
        sa.UniqueConstraint("key", name="uq_gpu_key"),
    )
    op.create_table(
        "host",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cpu", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_host"),
        sa.UniqueConstraint("key", name="uq_host_key"),
    )
    op.create_table(
        "plan",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("digests", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_plan"),
        sa.UniqueConstraint("key", name="uq_plan_key"),
    )
    op.create_table(
        "series",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("cell_key", sa.String(length=64), nullable=False),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_series"),
        sa.UniqueConstraint("key", name="uq_series_key"),
    )
    op.create_index("ix_series_cell_key", "series", ["cell_key"], unique=False)
    op.create_table(
        "session",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
        sa.UniqueConstraint("key", name="uq_session_key"),
    )
    op.create_index("ix_session_at", "session", ["at"], unique=False)
    op.create_table(
        "comparison",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("session_id", NUMBER, nullable=False),
        sa.Column("series_id", NUMBER, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("fails", sa.Boolean(), nullable=False),
        sa.Column("estimate", sa.Float(), nullable=True),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("visible", sa.Float(), nullable=True),
        sa.Column("p", sa.Float(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name="fk_comparison_series_id"),
        sa.ForeignKeyConstraint(["session_id"], ["session.id"], name="fk_comparison_session_id"),
        sa.PrimaryKeyConstraint("id", name="pk_comparison"),
        sa.UniqueConstraint("key", name="uq_comparison_key"),
    )
    op.create_index("ix_comparison_series_id", "comparison", ["series_id"], unique=False)
    op.create_index("ix_comparison_session_id", "comparison", ["session_id"], unique=False)
    op.create_table(
        "environment",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("host_id", NUMBER, nullable=True),
        sa.Column("gpu_id", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpu.id"], name="fk_environment_gpu_id"),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name="fk_environment_host_id"),
        sa.PrimaryKeyConstraint("id", name="pk_environment"),
        sa.UniqueConstraint("key", name="uq_environment_key"),
    )
    op.create_table(
        "record",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("session_id", NUMBER, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("test", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("precision", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("point", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("started", sa.Float(), nullable=False),
        sa.Column("duration", sa.Float(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["session.id"], name="fk_record_session_id"),
        sa.PrimaryKeyConstraint("id", name="pk_record"),
        sa.UniqueConstraint("key", name="uq_record_key"),
    )
    op.create_index("ix_record_session_id", "record", ["session_id", "verdict"], unique=False)
    op.create_table(
        "telemetry",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("session_id", NUMBER, nullable=False),
        sa.Column("cell_key", sa.String(length=64), nullable=False),
        sa.Column("process", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("sm_clock", sa.Integer(), nullable=True),
        sa.Column("memory_clock", sa.Integer(), nullable=True),
        sa.Column("temperature", sa.Integer(), nullable=True),
        sa.Column("power", sa.Float(), nullable=True),
        sa.Column("energy", sa.Float(), nullable=True),
        sa.Column("held_back", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["session.id"], name="fk_telemetry_session_id"),
        sa.PrimaryKeyConstraint("id", name="pk_telemetry"),
        sa.UniqueConstraint("key", name="uq_telemetry_key"),
    )
    op.create_index("ix_telemetry_session_id", "telemetry", ["session_id"], unique=False)
    op.create_table(
        "measurement",
        sa.Column("series_id", NUMBER, nullable=False),
        sa.Column("session_id", NUMBER, nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("spread", sa.Float(), nullable=False),
        sa.Column("processes", sa.Integer(), nullable=False),
        sa.Column("environment_id", NUMBER, nullable=False),
        sa.Column("plan_id", NUMBER, nullable=False),
        sa.Column("artifact_id", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_measurement_artifact_id"),
        sa.ForeignKeyConstraint(["environment_id"], ["environment.id"], name="fk_measurement_environment_id"),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name="fk_measurement_plan_id"),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name="fk_measurement_series_id"),
        sa.ForeignKeyConstraint(["session_id"], ["session.id"], name="fk_measurement_session_id"),
        sa.PrimaryKeyConstraint("series_id", "session_id", name="pk_measurement"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_measurement_session_id", "measurement", ["session_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_measurement_session_id", table_name="measurement")
    op.drop_table("measurement")
    op.drop_index("ix_telemetry_session_id", table_name="telemetry")
    op.drop_table("telemetry")
    op.drop_index("ix_record_session_id", table_name="record")
    op.drop_table("record")
    op.drop_table("environment")
    op.drop_index("ix_comparison_session_id", table_name="comparison")
    op.drop_index("ix_comparison_series_id", table_name="comparison")
    op.drop_table("comparison")
    op.drop_index("ix_session_at", table_name="session")
    op.drop_table("session")
    op.drop_index("ix_series_cell_key", table_name="series")
    op.drop_table("series")
    op.drop_table("plan")
    op.drop_table("host")
    op.drop_table("gpu")
    op.drop_table("artifact")
