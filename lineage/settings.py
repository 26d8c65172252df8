"""Settings of the log."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LineageSettings(BaseSettings):
    """Where the keys are and what the log is called."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    data_dir: Path = Field(
        Path(".data"), validation_alias="FEDERATOR_DATA_DIR", description="folder of everything that this machine keeps"
    )
    log_origin: str = Field(
        "localhost/stac-federator",
        pattern=r"^[^\s+]+$",
        max_length=200,
        validation_alias="FEDERATOR_LOG_ORIGIN",
        description="name of the log in its checkpoints: its URL without scheme; fixed once the log has begun",
    )
    batch_size: int = Field(
        5000,
        ge=1,
        le=50_000,
        validation_alias="FEDERATOR_LOG_BATCH_SIZE",
        description="events the sequencer takes at once",
    )
    trace_authorities_file: Path | None = Field(
        None,
        validation_alias="FEDERATOR_TRACE_AUTHORITIES_FILE",
        description="certificates (PEM) of the authorities whose signatures of traces are trusted; none: nobody's but our own",
    )
    trace_revocations_file: Path | None = Field(
        None,
        validation_alias="FEDERATOR_TRACE_REVOCATIONS_FILE",
        description="revocation lists (PEM, or one in DER) of these authorities",
    )

    log_copies_dir: Path | None = Field(
        None,
        validation_alias="FEDERATOR_LOG_COPIES_DIR",
        description="folder that gets copies of checkpoints, each written once; best on storage that cannot be rewritten; "
        "empty: log/copies in the data folder",
    )
    log_copies_interval_s: float = Field(
        3600,
        ge=0,
        validation_alias="FEDERATOR_LOG_COPIES_INTERVAL_S",
        description="seconds between two copies of checkpoints",
    )

    log_witnesses: str = Field(
        "",
        validation_alias="FEDERATOR_LOG_WITNESSES",
        description="witnesses that cosign checkpoints: URL=VKEY each, blanks between; one with two keys is there twice; empty: none",
    )

    log_stamp_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        validation_alias="FEDERATOR_LOG_STAMP_URL",
        description="time-stamping authority (RFC 3161) that says when a checkpoint was there; empty: none",
    )
    log_stamp_authorities_file: Path | None = Field(
        None,
        validation_alias="FEDERATOR_LOG_STAMP_AUTHORITIES_FILE",
        description="certificates (PEM) that its answers must hold under: a root, and those between",
    )
    log_stamp_interval_s: float = Field(
        86_400,
        ge=0,
        validation_alias="FEDERATOR_LOG_STAMP_INTERVAL_S",
        description="seconds between two stamps",
    )

    @property
    def published_dir(self) -> Path:
        """Folder of the newest checkpoint that was published, outside the database."""
        return self.data_dir / "log"

    @property
    def copies_dir(self) -> Path:
        """Folder of the copies of checkpoints."""
        return self.log_copies_dir or self.published_dir / "copies"

    @property
    def keys_dir(self) -> Path:
        """Folder of the private keys, readable by their owner only."""
        return self.data_dir / "keys"
