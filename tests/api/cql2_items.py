"""Items and expressions that show what of CQL2 is evaluated rightly: every operator, over values that are easy to get wrong."""

from __future__ import annotations

import random
from typing import Any

from tests.api.corpus import odd_item, text

NUMBER = 90
WORDS = ("alpha", "Alpha", "ALPHA beta", "élan", "Élan", "elan", "50%", "5_0", "it's", "back\\slash", "")
INSTRUMENTS = (["msi"], ["msi", "olci"], ["olci", "msi"], ["c-sar"], ["msi", "msi"], [])
SHAPES = ([10980, 10980], [100, 200], [200, 100], [100.5, 2])


def cql2_item(number: int) -> dict[str, Any]:
    """Item `number` of the odd ones with more properties, each missing in some items; names with `x:` are no queryables."""
    from datetime import datetime, timedelta

    rng = random.Random(f"cql2/{number}")
    item = odd_item(number)
    properties = item["properties"]
    when = datetime.fromisoformat(properties["datetime"])
    more: dict[str, Any] = {
        "x:word": rng.choice(WORDS),
        "x:other": rng.choice(WORDS),
        "x:number": rng.choice((9, 10, 10.5, 100, -3, 0)),
        "x:second": rng.choice((9, 10, 10.5, 100, -3, 2)),
        "x:flag": rng.random() < 0.5,
        "x:instant": text(when + timedelta(hours=rng.choice((-30, -1, 0, 1)))),
        "instruments": rng.choice(INSTRUMENTS),
        "x:shape": rng.choice(SHAPES),
        "x:sizes": rng.choice(SHAPES),
        "sat:absolute_orbit": rng.choice((1, 2, 9, 10, 1000)),
        "created": text(when + timedelta(hours=rng.choice((0, 5, 50)))),
        "updated": text(when + timedelta(hours=rng.choice((0, 5, 50)))),
        "x:id": rng.choice((item["id"], "other")),
    }
    properties |= {name: one for name, one in more.items() if rng.random() < 0.85}
    return item


def cql2_items() -> list[dict[str, Any]]:
    """All of them."""
    return [cql2_item(number) for number in range(NUMBER)]


_POLYGON = "POLYGON((-60 -40, 40 -40, 40 50, -60 50, -60 -40))"
_ITEM_RING = ", ".join(f"{x!r} {y!r}" for x, y in odd_item(7)["geometry"]["coordinates"][0])
_CORNER = "{0[0]!r} {0[1]!r}".format(odd_item(7)["geometry"]["coordinates"][0][0])
_MIXED = f"GEOMETRYCOLLECTION(POINT({_CORNER}), {_POLYGON})"
_INSTANT = cql2_item(4)["properties"]["datetime"]
_RANGED = next(
    item["properties"]
    for item in cql2_items()
    if item["properties"].get("end_datetime", "") > item["properties"]["datetime"]
)
_DAY = _INSTANT[:10]

#: Conformance class of CQL2 -> expressions in CQL2 text, or JSON where the text cannot say it.
EXPRESSIONS: dict[str, list[Any]] = {
    "basic-cql2": [
        *(f"platform {op} 'sentinel-2b'" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"eo:cloud_cover {op} 10.5" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"x:number {op} 10" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"sat:absolute_orbit {op} 9" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"sat:absolute_orbit {op} 9.5" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"datetime {op} TIMESTAMP('{_INSTANT}')" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"datetime {op} DATE('{_DAY}')" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"created {op} TIMESTAMP('{_INSTANT}')" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"x:instant {op} TIMESTAMP('{_INSTANT}')" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"x:instant {op} DATE('{_DAY}')" for op in ("=", "<>", "<", ">", "<=", ">=")),
        "x:flag = TRUE", "x:flag = FALSE", "x:flag <> TRUE", "x:word = 'it''s'", "x:word = ''", "x:word <> 'élan'",
        "id = 'item-0003'", "collection <> 'sentinel-2-l2a'", "properties.platform = 'sentinel-2a'", "\"platform\" = 'sentinel-2a'",
        "grid:code IS NULL", "grid:code IS NOT NULL", "x:none IS NULL", "x:instant IS NULL", "geometry IS NULL", "datetime IS NOT NULL",
        "instruments IS NULL", "x:none = 1", "NOT x:none = 1",
        "NOT eo:cloud_cover > 10", "eo:cloud_cover > 10 AND gsd = 10", "eo:cloud_cover > 10 OR gsd = 10",
        "NOT (eo:cloud_cover > 10 OR gsd = 10)", "eo:cloud_cover > 10 AND (gsd = 10 OR platform = 'sentinel-2a')", "gsd = 10 AND TRUE",
        "gsd = 10 OR FALSE", "gsd = 10 AND FALSE", "gsd = 10 OR TRUE", "NOT FALSE", "NOT (gsd = 10 AND TRUE)", "TRUE", "FALSE",
        "x:word <> 'lower'", "x:word = 'property'", "NOT x:word = 'op'", "platform <> 'timestamp'", "x:other <> 'interval'",
        "x:number = -3", "x:number < 1e1", "platform = 'é-platform'",
    ],
    "advanced-comparison-operators": [
        "x:word LIKE 'al%'", "x:word LIKE '%a'", "x:word LIKE '_lan'", "x:word LIKE '50\\%'", "x:word LIKE '5\\_0'", "x:word LIKE '%''%'",
        "x:word NOT LIKE 'A%'", "platform LIKE 'sentinel-2_'", "id LIKE 'item-000%'", "x:word LIKE ''", "x:word LIKE '%'",
        "gsd BETWEEN 5 AND 15", "x:number BETWEEN 9 AND 10.5", "x:number NOT BETWEEN 9 AND 10", "sat:absolute_orbit BETWEEN 1.5 AND 9.5",
        "eo:cloud_cover BETWEEN 50 AND 10", "x:number BETWEEN -3 AND 0",
        "platform IN ('sentinel-2a', 'é-platform')", "platform NOT IN ('sentinel-2a')", "x:number IN (9, 100)", "gsd IN (10.0, 30)",
        "id IN ('item-0003', 'item-0004')", "x:word IN ('it''s', '')", "sat:absolute_orbit IN (1, 2.5)", "x:flag IN (TRUE)",
        f"datetime IN (TIMESTAMP('{_INSTANT}'))",
        {"op": "between", "args": [{"property": "gsd"}, [5, 15]]},
        {"op": "not", "args": [{"op": "between", "args": [{"property": "x:number"}, [9, 10]]}]},
    ],
    "case-insensitive-comparison": [
        "CASEI(x:word) = CASEI('ALPHA')", "CASEI(platform) = CASEI('SENTINEL-2C')", "CASEI(x:word) LIKE CASEI('aLP%')",
        "CASEI(x:word) = CASEI('ÉLAN')",
        "CASEI(x:word) IN (CASEI('ALPHA'), CASEI('élan'))", "CASEI(x:word) <> CASEI('Alpha')", "CASEI(id) = CASEI('ITEM-0003')",
        "CASEI(x:word) = CASEI(x:other)",
    ],
    "accent-insensitive-comparison": [
        "ACCENTI(x:word) = ACCENTI('élan')", "ACCENTI(x:word) = ACCENTI('elan')", "ACCENTI(platform) LIKE ACCENTI('é%')",
        "ACCENTI(x:word) IN (ACCENTI('élan'))", "CASEI(ACCENTI(x:word)) = CASEI(ACCENTI('ÉLAN'))",
        "ACCENTI(CASEI(x:word)) LIKE ACCENTI(CASEI('É%'))",
        "ACCENTI(x:word) = ACCENTI(x:other)",
    ],
    "basic-spatial-functions": [
        "S_INTERSECTS(geometry, BBOX(-60, -40, 40, 50))", "S_INTERSECTS(geometry, BBOX(170, -80, -170, 80))",
        f"S_INTERSECTS(geometry, POINT({_CORNER}))",
        "S_INTERSECTS(geometry, POINT(0 0))", "NOT S_INTERSECTS(geometry, BBOX(-60, -40, 40, 50))",
        "S_INTERSECTS(geometry, BBOX(-60, -40, 0, 40, 50, 100))", "S_INTERSECTS(BBOX(-60, -40, 40, 50), geometry)",
    ],
    "basic-spatial-functions-plus": [
        f"S_INTERSECTS(geometry, {_POLYGON})", f"S_INTERSECTS(geometry, MULTIPOLYGON((({_ITEM_RING}))))",
        "S_INTERSECTS(geometry, LINESTRING(-170 -80, 170 80))", "S_INTERSECTS(geometry, MULTILINESTRING((-170 -80, 170 80), (0 0, 1 1)))",
        f"S_INTERSECTS(geometry, MULTIPOINT(({_CORNER}), (0 0)))",
        "S_INTERSECTS(geometry, POLYGON((-60 -40, 40 -40, 40 50, -60 50, -60 -40),"
        " (-50 -30, 30 -30, 30 40, -50 40, -50 -30)))",
        f"S_INTERSECTS(geometry, GEOMETRYCOLLECTION(POINT({_CORNER}), LINESTRING(-170 -80, 170 80)))",
    ],
    "spatial-functions": [
        *(
            f"S_{name}({one})"
            for name in ("INTERSECTS", "DISJOINT", "EQUALS", "TOUCHES", "CROSSES", "WITHIN", "CONTAINS", "OVERLAPS")
            for literal in (
                "BBOX(-60, -40, 40, 50)", "BBOX(170, -80, -170, 80)", _POLYGON, f"POLYGON(({_ITEM_RING}))", f"POINT({_CORNER})",
                f"LINESTRING({_CORNER}, 170 80)",
                f"MULTIPOINT(({_CORNER}), (0 0))", "LINESTRING(-170 -80, 170 80)",
                f"GEOMETRYCOLLECTION(POLYGON((-60 -40, 40 -40, 40 50, -60 50, -60 -40)), {_POLYGON.replace('40', '30')})",
            )
            for one in (f"geometry, {literal}", f"{literal}, geometry")
        ),
        *(f"S_{name}({one})" for name in ("INTERSECTS", "DISJOINT") for one in (f"geometry, {_MIXED}", f"{_MIXED}, geometry")),
    ],
    "temporal-functions": [
        *(
            f"T_{name}({one})"
            for name in (
                "AFTER", "BEFORE", "CONTAINS", "DISJOINT", "DURING", "EQUALS", "FINISHEDBY", "FINISHES", "INTERSECTS", "MEETS",
                "METBY", "OVERLAPPEDBY",
                "OVERLAPS", "STARTEDBY", "STARTS",
            )
            for one in (
                f"datetime, TIMESTAMP('{_INSTANT}')", f"datetime, DATE('{_DAY}')", f"TIMESTAMP('{_INSTANT}'), datetime",
                f"x:instant, TIMESTAMP('{_INSTANT}')",
                "datetime, INTERVAL('2025-03-01', '2025-08-01T00:00:00Z')", "created, INTERVAL('..', '2025-08-01')",
                "INTERVAL(start_datetime, end_datetime), INTERVAL('2025-03-01T00:00:00Z', '2025-08-01T00:00:00Z')",
                f"INTERVAL(start_datetime, end_datetime), INTERVAL('{_RANGED['datetime']}', '{_RANGED['end_datetime']}')",
                f"INTERVAL(start_datetime, end_datetime), INTERVAL('..', '{_RANGED['end_datetime']}')",
                f"INTERVAL(start_datetime, end_datetime), INTERVAL('{_RANGED['datetime']}', '..')",
                f"INTERVAL(start_datetime, end_datetime), TIMESTAMP('{_RANGED['end_datetime']}')",
                f"INTERVAL('{_RANGED['datetime']}', '{_RANGED['end_datetime']}'), INTERVAL(start_datetime, end_datetime)",
                "INTERVAL(datetime, created), INTERVAL(datetime, updated)",
            )
        ),
    ],
    "array-functions": [
        *(
            f"A_{name}({one})"
            for name in ("CONTAINS", "CONTAINEDBY", "EQUALS", "OVERLAPS")
            for one in (
                "instruments, ('msi')", "instruments, ('msi', 'olci')", "instruments, ('olci', 'msi', 'c-sar')", "instruments, ('none')",
                "x:shape, (100, 200)", "x:shape, (10980, 10980)", "x:shape, (100.5)", "x:shape, x:sizes",
            )
        ),
        {"op": "a_contains", "args": [{"property": "instruments"}, []]},
        {"op": "a_equals", "args": [{"property": "instruments"}, []]},
        {"op": "a_containedBy", "args": [["msi"], {"property": "instruments"}]},
    ],
    "property-property": [
        *(f"x:number {op} x:second" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"x:word {op} x:other" for op in ("=", "<>")),
        *(f"eo:cloud_cover {op} gsd" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"gsd {op} x:number" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"created {op} updated" for op in ("=", "<>", "<", ">", "<=", ">=")),
        *(f"datetime {op} x:instant" for op in ("=", "<>", "<", ">", "<=", ">=")),
        "id = x:id", "x:id <> id", "x:number BETWEEN x:second AND 10", "10 BETWEEN x:number AND x:second", "x:number IN (x:second, 9)",
        "x:flag = x:flag",
        "10.5 < eo:cloud_cover", "'sentinel-2a' = platform", f"TIMESTAMP('{_INSTANT}') < datetime", "1 = 1", "1 > 2",
        "x:word LIKE x:other",
        "x:none = x:word", "sat:absolute_orbit = x:number",
    ],
    "arithmetic": [
        "x:number + 1 > 10", "x:number - x:second = 0", "x:number * 2 + 1 = 19", "(x:number + 1) * 2 = 20", "10 - (x:number - 1) = 2",
        "x:number / 2 = 4.5",
        "sat:absolute_orbit / 4 = 2.5", "sat:absolute_orbit % 4 = 2", "x:number ^ 2 = 81", "sat:absolute_orbit div 4 = 2",
        "-x:number = 3", "2 * x:number > x:second",
        "x:second < 2 * x:number", "x:number / x:second > 1", "x:number + x:second BETWEEN 10 AND 20", "x:number + 1 IN (10, 101)",
        "eo:cloud_cover + gsd > 40",
        "eo:cloud_cover / gsd > 1", "x:number + 1 IS NULL", "2 ^ 3 ^ 1 = x:number - 1", "(x:number + x:second) / 2 > gsd",
        "x:number - 3 - 2 = 4", "x:number + 1 = gsd",
        "x:number div x:second = 1", "x:number % x:second = 0",
    ],
}  # fmt: skip

#: What is not evaluated: expression -> code of the refusal.
REFUSED: dict[str, str] = {
    **{f"S_{name}(geometry, {_MIXED})": "UNSUPPORTED_GEOMETRY" for name in ("EQUALS", "TOUCHES", "CROSSES", "WITHIN", "CONTAINS",
    "OVERLAPS")},
    "S_INTERSECTS(footprint, POINT(0 0))": "UNSUPPORTED_GEOMETRY",
    "S_DISTANCE(geometry, POINT(0 0))": "UNKNOWN_FUNCTION",
    "S_INTERSECTS(geometry, geometry)": "INVALID_FILTER",
    "T_NEAR(datetime, DATE('2025-01-01'))": "UNKNOWN_FUNCTION",
    "A_NONE(instruments, ('msi'))": "UNKNOWN_FUNCTION",
    "soundex(platform) = 'S535'": "UNKNOWN_FUNCTION",
    "avg(gsd) > 5": "UNKNOWN_FUNCTION",
    "CASEI(platform, 'x') = 'y'": "INVALID_FILTER",
    "starts_with(platform, 'a')": "UNKNOWN_FUNCTION",
    "federator_never(id)": "UNKNOWN_FUNCTION",
    "federator_concat(platform, 'a') = 'b'": "UNKNOWN_FUNCTION",
    "platform = POINT(0 0)": "INVALID_FILTER",
    "datetime = INTERVAL('2025-01-01', '..')": "INVALID_FILTER",
    "T_AFTER(datetime, 5)": "INVALID_FILTER",
    "instruments = ('msi', 'olci')": "INVALID_FILTER",
}  # fmt: skip
