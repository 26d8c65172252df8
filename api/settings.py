"""Settings of the HTTP side. Built once at the edge and passed to `create_app`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ingest.outside import Network as Network
from ingest.outside import parse_networks as parse_networks
from ingest.settings import local_public_url

#: Signatures with two keys, of which only the public one is known here.
PUBLIC_KEY_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


def _listed(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


class ApiSettings(BaseSettings):
    """What an operator may set for the API."""

    model_config = SettingsConfigDict(env_prefix="FEDERATOR_", frozen=True, extra="ignore", populate_by_name=True)

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8080, ge=1, le=65535, description="Port that the API listens on.")
    public_url: str = Field(
        default_factory=local_public_url, pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="URL under which users reach this service; every link is made of it, never of a request's headers.",
    )  # fmt: skip
    data_dir: Path = Field(Path(".data"), description="Folder for uploads, COGs, keys and the private database.")
    api_token: SecretStr = Field(
        SecretStr(""),
        description="The operator's own key, sent as 'Authorization: Bearer'; it may do everything. Empty: there is none.",
    )
    transactions: bool = Field(
        True,
        description="Whether items and collections can be written through the STAC API, by whoever has a credential with such a scope.",
    )
    max_bulk_bytes: int = Field(32 * 2**20, gt=0, description="Bytes of the largest body with many items.")
    max_bulk_items: int = Field(10_000, gt=0, description="Most items that one request may write.")
    max_patch_operations: int = Field(1000, gt=0, description="Most operations of a JSON Patch.")
    title: str = Field("STAC Federator", description="Title of the catalogue and of the start page.")
    max_body_bytes: int = Field(2**20, gt=0, description="Bytes of the largest request body, uploads excepted.")
    max_filter_bytes: int = Field(32_768, gt=0, description="Bytes of the longest CQL2 text.")
    max_filter_depth: int = Field(32, gt=0, description="Deepest nesting of a filter, of brackets and of NOT.")
    max_filter_terms: int = Field(
        500, gt=0, description="Words and signs of the longest CQL2 text, and members of a CQL2 JSON filter."
    )
    max_filter_operators: int = Field(
        200,
        gt=0,
        description="Operators of a CQL2 JSON filter or a query; each is planned for each month that is searched.",
    )
    max_ids: int = Field(1000, gt=0, description="Most ids or collections that one search may name.")
    max_vertices: int = Field(5000, gt=0, description="Most vertices of a search's geometry.")
    slow_query_s: float = Field(1.0, ge=0, description="Seconds from which on a search is logged with its parts.")
    access_log: bool = Field(
        False, description="Log a line for every request; it costs about as much as a kept answer."
    )
    export_max_items: int = Field(100_000, gt=0, description="Most items of one GeoParquet export.")
    export_concurrency: int = Field(2, gt=0, description="GeoParquet exports that one process makes at the same time.")
    processes: int = Field(1, ge=1, le=64, description="Processes that serve HTTP.")
    process_memory_bytes: int = Field(
        2 * 2**30,
        ge=0,
        description="Private memory from which on a serving process is replaced by a new one; 0: never.",
    )
    drain_s: float = Field(
        2.0, ge=0, description="Seconds that an ending process leaves idle connections open, for a request on its way."
    )
    grace_s: float = Field(15.0, gt=0, description="Seconds that requests may still take when a process is to end.")

    oidc_discovery_url: str = Field(
        "", validation_alias="OIDC_DISCOVERY_URL", pattern=r"^(https?://\S+)?$",
        description="Discovery document of an OpenID Connect provider whose tokens are taken; empty: none.",
    )  # fmt: skip
    oidc_discovery_internal_url: str = Field(
        "", validation_alias="OIDC_DISCOVERY_INTERNAL_URL", pattern=r"^(https?://\S+)?$",
        description="Where this service reads that document, and the keys on the same host, when clients use another way to it.",
    )  # fmt: skip
    allowed_jwt_audiences: str = Field(
        "",
        validation_alias="ALLOWED_JWT_AUDIENCES",
        description="One of these, divided by commas, must be in the provider's tokens as 'aud'; empty: not looked at.",
    )
    oidc_algorithms: str = Field(
        "RS256,PS256,ES256,EdDSA",
        description="Signatures of the provider's tokens that are taken, divided by commas; whatever a token says of itself.",
    )
    oidc_name_claim: str = Field(
        "preferred_username", description="Claim of the provider's tokens that people are called after."
    )
    oidc_groups_claim: str = Field("groups", description="Claim of the provider's tokens that lists a person's groups.")
    oidc_admin_group: str = Field(
        "", description="Group of the provider whose members are administrators here; empty: none."
    )

    @field_validator("oidc_algorithms")
    @classmethod
    def _only_public_keys(cls, value: str) -> str:
        if not (names := _listed(value)) or not set(names) <= PUBLIC_KEY_ALGORITHMS:
            raise ValueError(f"some of {', '.join(sorted(PUBLIC_KEY_ALGORITHMS))}")
        return value

    def algorithms(self) -> list[str]:
        """Signatures of the provider that are taken."""
        return _listed(self.oidc_algorithms)

    def audiences(self) -> list[str]:
        """What the provider's tokens must be for; none: anything."""
        return _listed(self.allowed_jwt_audiences)

    asset_networks: str = Field(
        "",
        description="Networks that rasters of sources may be read from though they are not of the public internet, with commas between.",
    )
    asset_timeout_s: float = Field(
        10.0, gt=0, description="Seconds that reading one asset elsewhere may take for one tile."
    )
    asset_host_concurrency: int = Field(
        8, ge=1, description="Requests for rasters that one process makes to one host at a time."
    )

    @field_validator("asset_networks")
    @classmethod
    def _networks_of_assets(cls, value: str) -> str:
        parse_networks(value)
        return value

    def local_url(self) -> str:
        """Where this machine reaches the API, whatever stands between it and its users."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - every address, this one too
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def asset_networks_allowed(self) -> tuple[Network, ...]:
        """Networks that rasters may be read from besides the public internet."""
        return parse_networks(self.asset_networks)

    tile_cache_dir: Path | None = Field(
        None, description="Folder of kept tiles, of all processes of this machine; empty: `tiles` in the data folder."
    )
    tile_cache_bytes: int = Field(2 * 2**30, ge=0, description="Bytes of kept tiles on disk; 0: none are kept there.")
    tile_memory_bytes: int = Field(64 * 2**20, ge=0, description="Bytes of kept tiles in the memory of each process.")
    tile_max_age_s: int = Field(
        0, ge=0, le=31_536_000,
        description="Seconds that browsers and proxies may show a public tile without asking; 0: they ask, and get 304.",
    )  # fmt: skip

    mosaic_time_limit_s: float = Field(
        5.0, gt=0, description="Seconds for one picture of many items; what is there by then is answered, and marked."
    )
    mosaic_max_items: int = Field(100, gt=0, le=10_000, description="Items that one picture is made of, at most.")
    overview_bytes: int = Field(
        2**30,
        ge=0,
        description="Bytes of pictures from afar that are kept in the database, of all collections; 0: none are kept.",
    )
    overview_remote: bool = Field(
        False,
        description="Whether pictures from afar are made of rasters elsewhere too, which are read for them in the background.",
    )
    mosaic_threads: int = Field(
        4, ge=1, le=64, description="Items that are read at once for a picture that needs them all, such as a mean."
    )
    max_picture_pixels: int = Field(2**24, gt=0, description="Pixels (width x height) of the largest picture.")
    anonymous_searches: bool = Field(
        True, description="Whether searches for tiles can be registered by nobody in particular."
    )
    searches_per_caller: int = Field(
        1000,
        gt=0,
        description="Registered searches of one caller, and of all who are nobody in particular; older ones go.",
    )
    signed_url_max_s: int = Field(
        3600, ge=10, le=3600, description="Seconds that a signed tile URL is good for, at most."
    )
    rate_limits: bool = Field(
        False, description="Whether requests are counted and limited by tier; 'on' for a service that others reach."
    )
    tiers_file: Path | None = Field(
        None, description="The operator's own file of tiers (TOML), in the place of api/limits/tiers.toml."
    )
    trusted_proxies: str = Field(
        "",
        description="Proxies whose X-Forwarded-For is believed: addresses and networks, with commas between.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    def proxies(self) -> tuple[Network, ...]:
        """Networks of the operator's proxies."""
        return parse_networks(self.trusted_proxies)

    @field_validator("tiers_file", "tile_cache_dir", mode="before")
    @classmethod
    def _or_none(cls, value: object) -> object:
        return value or None

    def token(self) -> str | None:
        """The token in clear, None when there is none."""
        return self.api_token.get_secret_value() or None
