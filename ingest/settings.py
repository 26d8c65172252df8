"""Settings of ingest. Built once at the edge and passed in; importing this reads no environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from ingest.outside import Network, parse_networks
from ingest.uploads.raster_settings import RasterSettings


def local_public_url(given: Mapping[str, Any]) -> str:
    """Where users of this machine reach the service, when nothing else is said: `given` has the port."""
    return f"http://127.0.0.1:{given.get('port', 8080)}"


class IngestSettings(RasterSettings):
    """What an operator may set for harvesting, uploads and the worker."""

    model_config = SettingsConfigDict(
        env_prefix="FEDERATOR_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    data_dir: Path = Field(Path(".data"), description="Folder for uploads, COGs, keys and the private database.")
    sources_dir: Path | None = Field(None, description="Folder with the operator's own source files (*.toml).")
    collections_dir: Path | None = Field(
        None, description="Folder with the operator's own collection files (*.json): changes, further ones, indexes."
    )
    port: int = Field(8080, ge=1, le=65535, description="Port that the API listens on.")
    public_url: str = Field(
        default_factory=local_public_url,
        description="URL under which users reach this service; no slash at the end. Without it: this machine's port.",
    )

    page_size: int = Field(
        500, ge=1, le=1000, description="Records asked for per page, unless a source's file says fewer."
    )
    request_timeout_s: float = Field(
        120.0, gt=0, description="Seconds that an upstream may be silent before a request is given up."
    )
    max_answer_bytes: int = Field(
        256 * 2**20, gt=0, description="Bytes of one upstream answer, unpacked, beyond which it is refused."
    )
    retry_attempts: int = Field(
        6, ge=1, le=20, description="How often a request is tried before the upstream counts as unavailable."
    )
    retry_base_s: float = Field(
        1.0, ge=0, description="Seconds of the first pause between tries; doubles, with full jitter."
    )
    retry_after_max_s: float = Field(
        3600.0, ge=0, description="Longest pause in seconds that an upstream's Retry-After may impose."
    )

    asset_networks: str = Field(
        "",
        description="Networks that rasters of sources may be read from though they are not of the public internet, with commas between.",
    )
    webhook_networks: str = Field(
        "",
        description="Networks that alerts may be sent to though they are not of the public internet, also by http, with commas between.",
    )
    drift_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of a page's records that may have another shape than we know before a harvest stops; 1: never stops.",
    )

    harvest_cron: str = Field(
        "",
        description="When the worker harvests every source (cron, UTC), e.g. '*/15 * * * *'; empty: never by itself.",
    )
    follow_cron: str = Field(
        "* * * * *",
        description="When the worker reads the notifications of sources with a subscription (cron, UTC); empty: never.",
    )
    follow_pause_s: float = Field(
        10.0, gt=0, description="Seconds between two looks of `python -m ingest follow` into an empty queue."
    )
    worker_concurrency: int = Field(4, ge=1, le=64, description="Jobs that one worker process runs at the same time.")
    worker_heartbeat_s: float = Field(2.0, gt=0, description="Seconds between a worker's signs of life.")
    worker_stalled_s: float = Field(
        10.0, gt=0, description="Seconds without a sign of life after which a worker's jobs go to another."
    )
    sequencer_interval_s: float = Field(0.5, gt=0, description="Seconds between two runs of the log's sequencer.")

    summary_rest_s: float = Field(
        6 * 3600.0,
        ge=0,
        le=1e9,
        description="Seconds between two readings of all items of a collection that loses or changes some, for its queryables.",
    )

    upload_max_bytes: int = Field(100 * 2**20, gt=0, description="Bytes of the largest file that a plain PUT may send.")
    upload_file_max_bytes: int = Field(
        50 * 10**9,
        gt=0,
        description="Bytes of the largest file that tus or parts may send (the figure of Copernicus' BYOC).",
    )
    upload_owner_max_bytes: int = Field(
        500 * 10**9, gt=0, description="Bytes that one owner may have: promised, originals that are kept, and COGs."
    )
    upload_open_max: int = Field(10, ge=1, description="Unfinished uploads that one owner may have at a time.")
    upload_expiry_h: float = Field(
        48.0, gt=0, description="Hours without a byte after which an unfinished upload is removed."
    )
    upload_silence_s: float = Field(
        30.0, gt=0, description="Seconds that a sender may be silent before its request is ended and others may send."
    )
    upload_sweep_s: float = Field(
        10.0, gt=0, description="Seconds between two looks for uploads that expired, or were left by a crash."
    )
    upload_store_url: str = Field(
        "",
        pattern=r"^(s3://[a-z0-9][a-z0-9.-]+(/[^\s?#]*)?)?$",
        description="Bucket that originals are kept in, and that clients may send parts to ('s3://bucket/prefix'); empty: the data folder.",
    )
    upload_part_bytes: int = Field(
        64 * 2**20,
        ge=5 * 2**20,
        description="Bytes of each part that a client sends to the bucket; S3 takes 5 MiB to 5 GiB.",
    )
    store_endpoint: str = Field(
        "", validation_alias="AWS_ENDPOINT_URL", description="URL of an S3-compatible store; empty: AWS in AWS_REGION."
    )
    store_region: str = Field("us-east-1", validation_alias="AWS_REGION", description="Region of the bucket.")
    store_key_id: str = Field(
        "", validation_alias="AWS_ACCESS_KEY_ID", description="Access key of the bucket's account."
    )
    store_secret: SecretStr = Field(
        SecretStr(""), validation_alias="AWS_SECRET_ACCESS_KEY", description="Secret of that access key."
    )

    @field_validator("asset_networks", "webhook_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    def asset_networks_allowed(self) -> tuple[Network, ...]:
        """Networks that files of sources may be read from besides the public internet."""
        return parse_networks(self.asset_networks)

    def webhook_networks_allowed(self) -> tuple[Network, ...]:
        """Networks that alerts may be sent to besides the public internet."""
        return parse_networks(self.webhook_networks)
