"""What every product name says, whatever its mission."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

#: Times in product names.
TIME = r"\d{8}T\d{6}"


@dataclass(frozen=True, slots=True)
class ProductName:
    """One product's name.

    Attributes:
        stem: the name without suffix.
        suffix: what the mission's own folder or file has behind it (".SAFE"), "" when there is none.
        mission: "sentinel-1"; "" for a product without naming rules.
        collection: federated collection.
        product_type: as the product's metadata call it.
        acquisition: what was observed; all versions and deliveries of it share this.
        version: which processing of the acquisition; products of other versions are other items, linked as versions.
        rank: orders deliveries; of several with one version the highest is the item, and versions follow one another by their highest.
        is_partial: the name leaves out what tells the version: the product joins the only version there is, if it is only one.
        part: what of the product the record describes, where a provider cuts it ("SR", "ST").
        is_cog: the cloud-optimised twin of a product, other files with the same pixels.
        is_ruled: False when the name was taken as it is.
        properties: STAC properties that name and mission tell, exact by definition.
    """

    stem: str
    suffix: str
    mission: str
    collection: str
    product_type: str
    acquisition: str
    version: str = ""
    rank: tuple[str, ...] = ()
    is_partial: bool = False
    part: str = ""
    is_cog: bool = False
    is_ruled: bool = True
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def product(self) -> str:
        """The name with suffix, the key across providers."""
        return f"{self.stem}{self.suffix}"


def time_of(text: str) -> datetime:
    """Read a time of a name. Raises ValueError."""
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def utm_code(tile: str) -> str:
    """EPSG code of an MGRS tile of Sentinel-2, exact by the tiling's definition: UTM zone; north from band N on."""
    zone, band = int(tile[:2]), tile[2]
    return f"EPSG:{32600 + zone if band >= 'N' else 32700 + zone}"
