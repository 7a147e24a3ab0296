"""Which version of this project brought the store to its schema: an older one that comes can name it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels = depends_on = None


def upgrade() -> None:
    op.create_table(
        "step",
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_step"),
    )


def downgrade() -> None:
    op.drop_table("step")
