"""Product names of Sentinel-1 GRD and Sentinel-2 L1C/L2A, read strictly by the missions' naming rules.

Rules: "Sentinel-1 Product Specification" (S1-RS-MDA-52-7441) 3.4, "Sentinel-2 Products Specification Document" (S2-PDGS-TAS-DI-PSD) 3.4;
the COG twins' suffix: eu-cdse/documentation, Data/Others/Sentinel1_COG.qmd.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest.errors import RecordRejected

SUFFIXES = (".SAFE", ".zip", ".SAFE.zip")

_TIME = r"\d{8}T\d{6}"
_S2 = re.compile(
    rf"(?P<platform>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<start>{_TIME})_N(?P<baseline>\d{{4}})_R(?P<orbit>\d{{3}})"
    rf"_T(?P<tile>(?:0[1-9]|[1-5]\d|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])_(?P<discriminator>{_TIME})"
)
_S1 = re.compile(
    r"(?P<platform>S1[A-D])_(?P<mode>IW|EW|S[1-6])_GRD(?P<resolution>[FHM])_1(?P<klass>[SA])(?P<polarisation>SH|SV|DH|DV)"
    rf"_(?P<start>{_TIME})_(?P<stop>{_TIME})_(?P<orbit>\d{{6}})_(?P<datatake>[0-9A-F]{{6}})_(?P<crc>[0-9A-F]{{4}})(?P<cog>_COG)?"
)
POLARISATIONS = {"SH": ("HH",), "SV": ("VV",), "DH": ("HH", "HV"), "DV": ("VV", "VH")}


@dataclass(frozen=True, slots=True)
class Sentinel2Name:
    """`MMM_MSIXXX_<datatake start>_Nxxyy_ROOO_Txxxxx_<discriminator>`; `tile` without T, `baseline` as "05.10"."""

    stem: str
    platform: str
    level: str
    start: datetime
    baseline: str
    relative_orbit: int
    tile: str
    discriminator: datetime

    @property
    def collection(self) -> str:
        """Federated collection."""
        return f"sentinel-2-{self.level.lower()}"

    @property
    def product_type(self) -> str:
        """As the product's metadata call it."""
        return "S2MSI1C" if self.level == "L1C" else "S2MSI2A"


@dataclass(frozen=True, slots=True)
class Sentinel1Name:
    """`MMM_BB_GRDR_1CPP_<start>_<stop>_<absolute orbit>_<datatake>_<CRC>[_COG]`; `datatake` is hexadecimal."""

    stem: str
    platform: str
    mode: str
    resolution: str
    polarisations: tuple[str, ...]
    start: datetime
    stop: datetime
    absolute_orbit: int
    datatake: int
    crc: str
    is_cog: bool

    @property
    def collection(self) -> str:
        """Federated collection."""
        return "sentinel-1-grd"

    @property
    def product_type(self) -> str:
        """As the operator's catalogue calls it: "IW_GRDH_1S", of a COG twin "IW_GRDH_1S-COG"."""
        klass = self.stem.split("_")[3][1]
        return f"{self.mode}_GRD{self.resolution}_1{klass}{'-COG' if self.is_cog else ''}"


ProductName = Sentinel1Name | Sentinel2Name


def stem_of(name: str) -> str:
    """The name without the suffix of its file or folder."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


def parse(name: str) -> ProductName:
    """Read a product name, with or without suffix.

    Raises:
        RecordRejected: "product-type-unsupported" for other products of these missions, "product-name-unknown" for
            anything else, "test-data" for baseline 99.xx.
    """
    stem = stem_of(name)
    try:
        if match := _S2.fullmatch(stem):
            return _sentinel2(stem, match)
        if match := _S1.fullmatch(stem):
            return _sentinel1(stem, match)
    except ValueError:  # digits that are no time
        raise RecordRejected("product-name-unknown", f"no valid times in {name[:120]!r}") from None
    if re.match(r"S1[A-D]_|S2[A-D]_MSI", stem):
        raise RecordRejected(
            "product-type-unsupported", f"neither Sentinel-1 GRD nor Sentinel-2 L1C/L2A: {name[:120]!r}"
        )
    raise RecordRejected("product-name-unknown", f"no product name that we know: {name[:120]!r}")


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _sentinel2(stem: str, match: re.Match[str]) -> Sentinel2Name:
    baseline = f"{match['baseline'][:2]}.{match['baseline'][2:]}"
    if baseline.startswith("99"):
        raise RecordRejected("test-data", f"baseline {baseline} marks test data: {stem}")
    if not 1 <= int(match["orbit"]) <= 143:  # orbits of one repeat cycle
        raise RecordRejected("product-name-unknown", f"no relative orbit {match['orbit']}: {stem}")
    return Sentinel2Name(
        stem,
        match["platform"],
        match["level"],
        _time(match["start"]),
        baseline,
        int(match["orbit"]),
        match["tile"],
        _time(match["discriminator"]),
    )


def _sentinel1(stem: str, match: re.Match[str]) -> Sentinel1Name:
    start, stop = _time(match["start"]), _time(match["stop"])
    if start > stop:
        raise RecordRejected("product-name-unknown", f"ends before it starts: {stem}")
    return Sentinel1Name(
        stem,
        match["platform"],
        match["mode"],
        match["resolution"],
        POLARISATIONS[match["polarisation"]],
        start,
        stop,
        int(match["orbit"]),
        int(match["datatake"], 16),
        match["crc"],
        match["cog"] is not None,
    )


def utm_code(tile: str) -> str:
    """EPSG code of an MGRS tile of Sentinel-2, exact by the tiling's definition: UTM zone; north from band N on."""
    zone, band = int(tile[:2]), tile[2]
    return f"EPSG:{32600 + zone if band >= 'N' else 32700 + zone}"
