"""Settings, pools, named SQL, migrations and the embedded cluster. Imports no other package of ours."""

from __future__ import annotations

from db.cluster import connection_settings
from db.settings import DatabaseSettings

__all__ = ["DatabaseSettings", "resolve"]


def resolve(settings: DatabaseSettings) -> DatabaseSettings:
    """Return settings that name a server: unchanged for an existing one, else those of the private cluster.

    The private cluster need not run yet, but must have been made once (`db.cluster.start`).

    Raises:
        ClusterError: there is no private cluster yet.
    """
    return settings if settings.is_external else connection_settings(settings)
