"""What can go wrong with the database, split by what the caller should do.

DbError
├── DatabaseUnavailable   try again later, or correct the connection settings that the message names
├── DatabaseTooNew        the schema is newer than this code: update the code
├── MigrationChanged      a migration that was applied has another content now: restore the file
└── ClusterError          the private cluster cannot be made or started: do what the message says
"""


class DbError(Exception):
    """Base of all errors of this package. The message is for a person and holds no secret."""


class DatabaseUnavailable(DbError):
    """No connection: wrong settings, server down, or too busy."""


class DatabaseTooNew(DbError):
    """The database was migrated by newer code."""


class MigrationChanged(DbError):
    """An applied migration's file was edited."""


class ClusterError(DbError):
    """The private cluster cannot be made, started or stopped."""
