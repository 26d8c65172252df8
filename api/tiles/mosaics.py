"""Mosaics: pictures of the items of a collection, or of a registered search, that a caller may see; rio-tiler's backend over our search."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import attr
import pystac
from fastapi import Query
from morecantile import Tile, TileMatrixSet
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from rio_tiler.constants import WEB_MERCATOR_TMS, WGS84_CRS
from rio_tiler.errors import NoAssetFoundError
from rio_tiler.io import BaseReader
from rio_tiler.models import ImageData, PointData
from rio_tiler.mosaic.backend import BaseBackend
from rio_tiler.mosaic.methods import PixelSelectionMethod
from rio_tiler.mosaic.methods.defaults import FirstMethod
from shapely import box, union_all
from shapely.geometry import Point
from shapely.geometry.base import BaseGeometry
from starlette.requests import Request
from titiler.core.dependencies import DefaultDependency

from api.problems import Problem
from api.render_hints import render_of
from api.signed import note_private
from api.tiles.features import check_feature
from api.tiles.found import Found, items_in
from api.tiles.laying import NOTHING_THERE, Laid, NothingLaid, lay
from api.tiles.notes import DEADLINE, ITEMS, UNREADABLE, note_partial
from api.tiles.rendering import DRAWING, Drawing
from api.tiles.resolutions import finest
from ingest.edits.hrefs import upload_of

JSON = dict[str, Any]
#: Items on top that are looked at for how a mosaic is drawn.
_LOOKED_AT: Final = 6
#: Items one after the other that add nothing to a picture that is to be kept: its holes stay holes, as the sea of a coast.
PATIENCE: Final = 50
WORLD: Final = (-180.0, -90.0, 180.0, 90.0)


@dataclass(slots=True)
class Mosaic:
    """Items that are shown together, as a caller may see them.

    `search` is as pgstac's functions take it; `bounds` in degrees; `renders` hints by name; `times` from and to, RFC 3339.
    """

    name: str
    title: str
    search: JSON
    principals: tuple[str, ...]
    bounds: tuple[float, float, float, float] = WORLD
    renders: JSON = field(default_factory=dict)
    times: tuple[str, str] | None = None
    zooms: tuple[int | None, int | None] = (None, None)
    document: Any = None
    _newest: list[Found] | None = None

    def newest(self, request: Request) -> pystac.Item | None:
        """The item on top that says how it is drawn, else the one on top; read once a request, for hints and resolutions."""
        if self._newest is None:
            found = next(items_in(request, self.search, self.principals, None, _LOOKED_AT), [])
            drawn = (one for one in found if render_of(one.item, "default", self.renders))
            self._newest = [next(drawn, found[0])] if found else []
        if not self._newest:
            return None
        note_private(request, is_private=not self._newest[0].is_public)
        return self._newest[0].item


class BackendParams(DefaultDependency):
    """What the backend has of the request."""

    def __init__(self, request: Request) -> None:
        self.request = request


@dataclass
class AccessorParams(DefaultDependency):
    """Which items a picture is made of; the operator's limits are the highest that can be asked for."""

    scan_limit: Annotated[int | None, Query(ge=1, description="As `items_limit`; the smaller of the two holds.")] = None
    items_limit: Annotated[int | None, Query(ge=1, description="Items that a picture is made of, at most.")] = None
    time_limit: Annotated[
        float | None, Query(gt=0, le=3600, description="Seconds after which a picture is answered as far as it is.")
    ] = None
    exitwhenfull: Annotated[
        bool | None,
        Query(description="Stop as soon as every pixel is there; what `pixel_selection=first` does anyway."),
    ] = None
    skipcovered: Annotated[
        bool | None, Query(description="Leave out items under pixels that are there already. Default: true.")
    ] = None


@attr.s
class MosaicBackend(BaseBackend):
    """rio-tiler's interface of a mosaic, over `items_in` and `lay`."""

    input: Mosaic = attr.ib()
    request: Request = attr.ib(kw_only=True)
    tms: TileMatrixSet = attr.ib(default=WEB_MERCATOR_TMS)
    reader: type[BaseReader] = attr.ib(kw_only=True)
    reader_options: dict[str, Any] = attr.ib(factory=dict)
    crs: CRS = attr.ib(default=WGS84_CRS)
    _begun: float = attr.ib(init=False, factory=time.monotonic)

    @property
    def bounds(self) -> tuple[float, float, float, float]:  # type: ignore[override]
        """In degrees."""
        return self.input.bounds

    @property
    def minzoom(self) -> int:  # type: ignore[override]
        """The coarsest that is answered."""
        least: int = self.tms.minzoom
        return max(least, self.input.zooms[0] or least)

    @property
    def maxzoom(self) -> int:  # type: ignore[override]
        """The zoom of the newest item's own pixels."""
        item = self.input.newest(self.request) if self.input.zooms[1] is None else None
        told = self.input.zooms[1] if item is None else finest(item, self.tms)
        most: int = self.tms.maxzoom
        return most if told is None else max(self.minzoom, min(most, told))

    def assets_for_tile(self, x: int, y: int, z: int, **options: Any) -> list[JSON]:
        """Items of a tile."""
        return self._listed(self._tile_area(x, y, z), options)

    def assets_for_point(self, lng: float, lat: float, coord_crs: CRS = WGS84_CRS, **options: Any) -> list[JSON]:
        """Items at a place."""
        return self._listed(_area((lng, lat, lng, lat), coord_crs), options)

    def assets_for_bbox(
        self, xmin: float, ymin: float, xmax: float, ymax: float, coord_crs: CRS = WGS84_CRS, **options: Any
    ) -> list[JSON]:
        """Items of a box."""
        return self._listed(_area((xmin, ymin, xmax, ymax), coord_crs), options)

    def tile(  # type: ignore[override]
        self, x: int, y: int, z: int, search_options: JSON | None = None, **options: Any
    ) -> Any:
        """The picture of a tile, and names of the items in it."""
        method, rest = _method(options)
        return self._picture(
            self._tile_area(x, y, z), lambda src: src.tile(x, y, z, **rest), method, search_options or {}
        )

    def part(self, bbox: Any, bounds_crs: CRS = WGS84_CRS, search_options: JSON | None = None, **options: Any) -> Any:
        """The picture of a box, and names of the items in it."""
        method, rest = _method(options)

        def read(src: Any) -> ImageData:
            return src.part(bbox, bounds_crs=bounds_crs, **rest)  # type: ignore[no-any-return]

        return self._picture(_area(tuple(bbox), bounds_crs), read, method, search_options or {})

    def feature(self, shape: Any, *rest: Any, **options: Any) -> Any:
        """The picture of an outline, and names of the items in it."""
        check_feature(shape)
        return super().feature(shape, *rest, **options)

    def preview(self, search_options: JSON | None = None, **options: Any) -> Any:
        """The picture of everything."""
        west, south, east, north = self.bounds
        box_ = (west, max(south, -85.0), east, min(north, 85.0)) if options.get("dst_crs") != WGS84_CRS else self.bounds
        if west > east:
            box_ = (-180.0, box_[1], 180.0, box_[3])
        return self.part(box_, search_options=search_options, **options)

    def point(  # type: ignore[override]
        self, lon: float, lat: float, coord_crs: CRS = WGS84_CRS, search_options: JSON | None = None, **options: Any
    ) -> list[tuple[str, PointData]]:
        """Values of the items at a place, in their order."""
        options.pop("threads", None)
        most, until, _ = self._limits(search_options or {})
        values: list[tuple[str, PointData]] = []
        laid = Laid()
        for place, one in enumerate(self._found(_area((lon, lat, lon, lat), coord_crs), most + 1)):
            if place == most or time.monotonic() >= until:
                laid.miss(ITEMS if place == most else DEADLINE)
                break
            try:
                with self.reader(one.item, **self.reader_options) as src:
                    value = src.point(lon, lat, coord_crs=coord_crs, **options)
            except NOTHING_THERE:
                continue
            except (RasterioError, OSError, Problem) as error:
                if isinstance(error, Problem) and error.status == 400:
                    raise
                laid.miss(UNREADABLE)
                laid.refusal = laid.refusal or error
                continue
            laid.is_private |= not one.is_public
            values.append((f"{one.item.collection_id}/{one.item.id}", value))
        if not values:
            raise laid.refusal or NoAssetFoundError("no item has a pixel there")
        self._note(laid)
        return values

    def _picture(self, area: BaseGeometry, read: Callable[[Any], ImageData], method: Any, options: JSON) -> Any:
        limit, until, skip = self._limits(options)
        most = limit + 1  # one more tells that there are more
        threads = self.request.app.state.mosaic_threads
        drawing: Drawing | None = self.request.scope.get(DRAWING)

        def read_item(item: pystac.Item) -> ImageData:
            if drawing is not None:
                _check_drawn(item, drawing)
            with self.reader(item, tms=self.tms, **self.reader_options) as src:
                return read(src)

        pages = items_in(self.request, self.input.search, self.input.principals, area, most)
        try:
            image, laid = lay(
                pages,
                read_item,
                method,
                until=until,
                most=limit,
                threads=threads,
                skip=skip,
                stop_when_full=options.get("exitwhenfull") is True,
                patience=None if drawing is None else PATIENCE,
            )
        except NothingLaid as nothing:
            self._note(nothing.laid)
            raise
        self._note(laid)
        return image, laid.names

    def _note(self, laid: Laid) -> None:
        note_private(self.request, is_private=laid.is_private)
        self.request.state.items_read = len(laid.names)
        if laid.partial is not None:
            note_partial(self.request, laid.partial)

    def _limits(self, options: JSON) -> tuple[int, float, bool]:
        """Items at most, the moment at which to stop, one for all pictures of a request, and whether covered items are left out."""
        state = self.request.app.state
        asked = [options[name] for name in ("scan_limit", "items_limit") if options.get(name)]
        seconds = min(state.mosaic_time_limit_s, options.get("time_limit") or state.mosaic_time_limit_s)
        is_skipping = options.get("skipcovered") is not False
        if DRAWING in self.request.scope:  # for many to see
            return 10 * state.mosaic_max_items, self._begun + 6 * seconds, is_skipping
        return min([state.mosaic_max_items, *asked]), self._begun + seconds, is_skipping

    def _found(self, area: BaseGeometry, most: int) -> Iterator[Found]:
        for page in items_in(self.request, self.input.search, self.input.principals, area, most):
            yield from page

    def _listed(self, area: BaseGeometry, options: JSON) -> list[JSON]:
        most, _, _ = self._limits(options)
        found = list(self._found(area, most + 1))
        note_private(self.request, is_private=any(not one.is_public for one in found))
        if len(found) > most:
            note_partial(self.request, ITEMS)
        return [_told(one.item) for one in found[:most]]

    def _tile_area(self, x: int, y: int, z: int) -> BaseGeometry:
        matrix = self.tms.matrix(z)
        if not (0 <= x < matrix.matrixWidth and 0 <= y < matrix.matrixHeight):
            raise Problem(404, "TILE_OUTSIDE_BOUNDS", "the tile is outside the tile matrix")
        return _area(tuple(self.tms.xy_bounds(Tile(x, y, z))), self.tms.rasterio_crs)


def _check_drawn(item: pystac.Item, drawing: Drawing) -> None:
    """Raise Problem: the item is not read for a picture that is to be kept."""
    if drawing.is_over.is_set():
        raise Problem(503, "ENDING", "the process is about to end")
    if not drawing.has_remote and all(upload_of(asset.href) is None for asset in item.assets.values()):
        raise Problem(422, "ASSET_NOT_SERVED", "rasters elsewhere are not read for what is kept")


def _told(item: pystac.Item) -> JSON:
    return {
        "id": item.id,
        "collection": item.collection_id,
        "bbox": item.bbox,
        "assets": {key: asset.to_dict() for key, asset in item.assets.items()},
    }


def _method(options: JSON) -> tuple[Any, JSON]:
    """How pixels are chosen, and the options that readers know."""
    rest = {name: value for name, value in options.items() if name not in ("pixel_selection", "threads")}
    method = options.get("pixel_selection", FirstMethod)
    return (method() if isinstance(method, type) else method), rest


def _area(bounds: tuple[float, ...], crs: CRS) -> BaseGeometry:
    """A box as a geometry in WGS 84; across the antimeridian in two parts.

    Raises:
        Problem: 400.
    """
    try:
        west, south, east, north = (
            bounds if crs == WGS84_CRS else transform_bounds(crs, WGS84_CRS, *bounds, densify_pts=21)
        )
    except (RasterioError, ValueError):
        west = south = east = north = float("nan")
    numbers = (west, south, east, north)
    if not all(abs(one) < 1e9 for one in numbers) or south > north:
        raise Problem(400, "INVALID_BBOX", "the box has no place on the Earth", field="bbox")
    south, north = max(-90.0, min(90.0, south)), max(-90.0, min(90.0, north))
    if (west, south) == (east, north):
        return Point(west, south)
    if west > east:
        return union_all([box(west, south, 180.0, north), box(-180.0, south, east, north)])
    return box(max(-180.0, west), south, min(180.0, east), north)


METHODS = tuple(one.name for one in PixelSelectionMethod)


def pixel_selection_of(
    pixel_selection: Annotated[Literal[METHODS], Query(description="How the pixel is chosen.")] = "first",  # type: ignore[valid-type]
) -> Any:
    """rio-tiler's method, which holds what it has been fed: one a request."""
    return PixelSelectionMethod[pixel_selection].value()
