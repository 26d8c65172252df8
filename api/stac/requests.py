"""What a search and an aggregation take beside stac-fastapi's own models.

Annotations are not postponed here: FastAPI cannot look up the names in those of a class made by attrs.
"""

from typing import Annotated, Any

import attr
from fastapi import Query
from pydantic import Field, field_validator
from stac_fastapi.extensions.aggregation.request import AggregationExtensionGetRequest, AggregationExtensionPostRequest
from stac_fastapi.pgstac.types.search import PgstacSearch

from api.stac.aggregations import Interval

_INTERVAL = "Calendar interval of `datetime_frequency`, in UTC; weeks begin on Monday. Default: month."
_GEOHASH = "Characters of a geohash, 1 to 12. Default: 1."
_GEOTILE = "Zoom level of the tiles, 0 to 29. Default: 0."


class Search(PgstacSearch):  # type: ignore[misc]
    """The body of a search; takes one text where a list belongs, as some clients (and stac-api-validator) send it."""

    @field_validator("collections", "ids", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


@attr.s
class AggregateGet(AggregationExtensionGetRequest):
    """The stock parameters and those that stac-server and others take besides."""

    datetime_frequency_interval: Annotated[Interval | None, Query(description=_INTERVAL)] = attr.ib(default=None)
    grid_geohash_frequency_precision: Annotated[int | None, Query(description=_GEOHASH, ge=1, le=12)] = attr.ib(
        default=None
    )
    grid_geotile_frequency_precision: Annotated[int | None, Query(description=_GEOTILE, ge=0, le=29)] = attr.ib(
        default=None
    )
    centroid_geohash_grid_frequency_precision: Annotated[int | None, Query(description=_GEOHASH, ge=1, le=12)] = (
        attr.ib(default=None)
    )
    centroid_geotile_grid_frequency_precision: Annotated[int | None, Query(description=_GEOTILE, ge=0, le=29)] = (
        attr.ib(default=None)
    )
    geometry_geohash_grid_frequency_precision: Annotated[int | None, Query(description=_GEOHASH, ge=1, le=12)] = (
        attr.ib(default=None)
    )
    geometry_geotile_grid_frequency_precision: Annotated[int | None, Query(description=_GEOTILE, ge=0, le=29)] = (
        attr.ib(default=None)
    )


class AggregatePost(Search, AggregationExtensionPostRequest):
    """The same in a body."""

    datetime_frequency_interval: Interval | None = Field(None, description=_INTERVAL)
    grid_geohash_frequency_precision: int | None = Field(None, description=_GEOHASH, ge=1, le=12)
    grid_geotile_frequency_precision: int | None = Field(None, description=_GEOTILE, ge=0, le=29)
    centroid_geohash_grid_frequency_precision: int | None = Field(None, description=_GEOHASH, ge=1, le=12)
    centroid_geotile_grid_frequency_precision: int | None = Field(None, description=_GEOTILE, ge=0, le=29)
    geometry_geohash_grid_frequency_precision: int | None = Field(None, description=_GEOHASH, ge=1, le=12)
    geometry_geotile_grid_frequency_precision: int | None = Field(None, description=_GEOTILE, ge=0, le=29)
