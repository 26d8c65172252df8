"""Who may see what the log says: callers as the database knows them. What one may not see does not exist (0012_visibility.sql)."""

from __future__ import annotations

from typing import Final

#: The operator's own programs see everything.
EVERYTHING: Final = ("role:admin",)
