"""Conformance classes beside those that stac-fastapi's parts declare. A test proves each (`tests/api/test_conformance.py`)."""

from __future__ import annotations

_CQL2 = "http://www.opengis.net/spec/cql2/1.0/conf/"
_FEATURES = "http://www.opengis.net/spec/ogcapi-features-"

#: Of the standard's classes `functions` is not declared: there are no functions but the standard's own.
MORE_CLASSES = frozenset(
    {
        # The filter extension's text of today beside the one that stac-fastapi still declares.
        "https://api.stacspec.org/v1.0.0/item-search#filter",
        # The sort extension under the name that pystac-client looks for.
        "https://api.stacspec.org/v1.0.0/item-search#sort",
        f"{_FEATURES}3/1.0/conf/queryables",
        *(
            _CQL2 + name
            for name in (
                "advanced-comparison-operators",
                "case-insensitive-comparison",
                "accent-insensitive-comparison",
                "basic-spatial-functions",
                "basic-spatial-functions-plus",
                "spatial-functions",
                "temporal-functions",
                "array-functions",
                "property-property",
                "arithmetic",
            )
        ),
        "https://api.stacspec.org/v1.0.0/children",
        "https://api.stacspec.org/v1.0.0/children#type-filter",
        "https://api.stacspec.org/v1.0.0-rc.2/children",
        # The multi-tenant catalogs extension under the name of its library and that of its text.
        "https://api.stacspec.org/v1.0.0/multi-tenant-catalogs",
        "https://api.stacspec.org/v1.0.0/multi-tenant-catalogs/search",
        "https://api.stacspec.org/v1.0.0-rc.2/multi-tenant-catalogs",
        "https://api.stacspec.org/v1.0.0-rc.2/multi-tenant-catalogs/search",
    }
)
