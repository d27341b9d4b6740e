"""How a database comes from any older form to the present one: one file a step, in `versions`, run by Alembic."""

from typing import Final

HEAD: Final = "0006"
"""The last step: of a database that stands there nothing is to be done, and Alembic is not even loaded."""
