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

    @property
    def keys_dir(self) -> Path:
        """Folder of the private keys, readable by their owner only."""
        return self.data_dir / "keys"
