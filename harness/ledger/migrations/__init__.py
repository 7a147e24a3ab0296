"""How a store of any earlier schema comes to the present one, and back: Alembic's, one file a step."""
