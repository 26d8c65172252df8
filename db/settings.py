"""Where the database is. Names of variables are those that PostgreSQL's and eoAPI's users know."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlencode

from psycopg.conninfo import make_conninfo
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatabaseSettings(BaseSettings):
    """Connection and pool settings. An empty PGHOST and PGDATABASE mean: the private cluster below the data directory."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    pghost: str = Field(
        "", validation_alias="PGHOST", description="host name or socket directory of an existing server"
    )
    pgport: int = Field(5432, ge=1, le=65535, validation_alias="PGPORT", description="port of an existing server")
    pguser: str = Field("", validation_alias="PGUSER", description="user at the server; empty: the library's default")
    pgpassword: SecretStr = Field(SecretStr(""), validation_alias="PGPASSWORD", description="password of PGUSER")
    pgdatabase: str = Field("", validation_alias="PGDATABASE", description="database at the server")
    pghost_reader: str = Field(
        "", validation_alias="PGHOST_READER", description="host of a replica that searches are read from; empty: none"
    )
    pgport_reader: int = Field(
        0, ge=0, le=65535, validation_alias="PGPORT_READER", description="port of the replica; 0: the same as PGPORT"
    )
    reader_max_lag_s: float = Field(
        10,
        gt=0,
        validation_alias="DB_READER_MAX_LAG_S",
        description="seconds that the replica may be behind and still be read",
    )
    data_dir: Path = Field(
        Path(".data"), validation_alias="FEDERATOR_DATA_DIR", description="folder of everything that this machine keeps"
    )
    min_conn_size: int = Field(
        1, ge=0, validation_alias="DB_MIN_CONN_SIZE", description="connections that a pool keeps open"
    )
    max_conn_size: int = Field(10, ge=1, validation_alias="DB_MAX_CONN_SIZE", description="connections a pool may open")
    connect_timeout_s: int = Field(
        5, ge=1, validation_alias="DB_CONNECT_TIMEOUT_S", description="seconds to wait for a connection"
    )
    statement_timeout_s: float = Field(
        60, gt=0, validation_alias="DB_STATEMENT_TIMEOUT_S", description="seconds a statement of ours may run"
    )
    read_timeout_s: float = Field(
        10, gt=0, validation_alias="DB_READ_TIMEOUT_S", description="seconds a read of the API may run"
    )
    lock_timeout_s: float = Field(
        30, gt=0, validation_alias="DB_LOCK_TIMEOUT_S", description="seconds a statement may wait for a lock"
    )
    idle_timeout_s: float = Field(
        120, gt=0, validation_alias="DB_IDLE_TIMEOUT_S", description="seconds a transaction may idle before it is ended"
    )

    @property
    def is_external(self) -> bool:
        """True when PGHOST or PGDATABASE name a server that exists without us."""
        return bool(self.pghost or self.pgdatabase)

    @property
    def reader(self) -> DatabaseSettings:
        """Settings of the replica. Its pool keeps no connection open, so that it may be away when we start."""
        port = self.pgport_reader or self.pgport
        return self.model_copy(update={"pghost": self.pghost_reader, "pgport": port, "min_conn_size": 0})

    @property
    def conninfo(self) -> str:
        """Connection string in libpq's key=value form; holds the password."""
        values: dict[str, str | int] = {
            "host": self.pghost,
            "port": self.pgport,
            "user": self.pguser,
            "password": self.pgpassword.get_secret_value(),
            "dbname": self.pgdatabase,
            "connect_timeout": self.connect_timeout_s,
        }
        return make_conninfo("", **{name: value for name, value in values.items() if value})

    @property
    def dsn(self) -> str:
        """Connection URL for asyncpg, pypgstac and titiler-pgstac; holds the password."""
        login = quote(self.pguser, safe="")
        if password := self.pgpassword.get_secret_value():
            login += ":" + quote(password, safe="")
        database = quote(self.pgdatabase or self.pguser, safe="")
        if self.pghost.startswith("/"):
            return f"postgresql://{login}@/{database}?{urlencode({'host': self.pghost, 'port': self.pgport})}"
        return f"postgresql://{login}@{self.pghost or 'localhost'}:{self.pgport}/{database}"

    @property
    def where(self) -> str:
        """Server and database in words, without the password."""
        return f"{self.pghost or 'localhost'}:{self.pgport}, database {self.pgdatabase!r}, user {self.pguser!r}"
