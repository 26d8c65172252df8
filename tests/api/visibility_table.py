"""Who may do what on which route: the table that the tests hold the running service against, and docs/visibility.md is printed from.

A route that is in none of the rules fails the test: say first what it may tell. `python -m tests.api.visibility_table` prints the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VISIBILITIES = ("private", "shared", "public")
#: Nobody; a person it is not shared with; one whose group may read; its owner; an administrator.
CALLERS = ("anonymous", "other", "shared", "owner", "admin")
MOUNTS = ("", "/stac", "/raster")
METHODS = ("get", "head", "options", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Rule:
    """Routes that answer alike. `expected`: for each caller the outcome for what is private, shared and public; none: see the words."""

    name: str
    words: str
    routes: tuple[str, ...]
    expected: dict[str, tuple[str, str, str]] | None = None

    @property
    def is_read(self) -> bool:
        """Whether "yes" is an answer with what is there."""
        return self.name.startswith(("reading", "the history"))


def _matrix(text: str) -> dict[str, tuple[str, str, str]]:
    rows = (line.split() for line in text.strip().splitlines())
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


_READ = _matrix("""
    anonymous  404 404 yes
    other      404 404 yes
    shared     404 yes yes
    owner      yes yes yes
    admin      yes yes yes
""")
_WRITE = _matrix("""
    anonymous  401 401 401
    other      404 404 403
    shared     404 403 403
    owner      yes yes yes
    admin      yes yes yes
""")
_OWN = _matrix("""
    anonymous  401 401 401
    other      404 404 404
    shared     404 404 404
    owner      yes yes yes
    admin      yes yes yes
""")


def _under(prefix: str, *paths: str, method: str = "GET") -> tuple[str, ...]:
    return tuple(f"{method} {prefix}{path}" for path in paths)


_ITEM = "/collections/{collection_id}/items/{item_id}"
_CATALOG = "/stac/catalogs/{source_id}"
_COLLECTION = "/collections/{collection_id}"
_TILE, _BOX = "/tiles/{tileMatrixSetId}/{z}/{x}/{y}", "/bbox/{minx},{miny},{maxx},{maxy}"
_FEATURES = ("/statistics", "/feature", "/feature.{format}", "/feature/{width}x{height}.{format}")
_MOSAIC = (
    "/tiles", "/tiles/{tileMatrixSetId}", _TILE, f"{_TILE}.{{format}}", f"{_TILE}/assets", "/map", "/{tileMatrixSetId}/map.html",
    "/{tileMatrixSetId}/tilejson.json", "/point/{lon},{lat}", "/point/{lon},{lat}/assets", f"{_BOX}.{{format}}",
    f"{_BOX}/{{width}}x{{height}}.{{format}}", f"{_BOX}/assets", "/WMTSCapabilities.xml", "/wmts", "/wms",
)  # fmt: skip

RULES = (
    Rule(
        "lists",
        "These answer everybody. What a caller may not see is not in them, is not counted, and makes no value, range or extent.",
        (
            *_under(
                "/stac", "/", "/search", "/collections", "/sortables", "/queryables", "/aggregations", "/aggregate", "/children",
                "/collections-queryables", "/collections-sortables", "/catalogs",
            ),
            *_under(_CATALOG, "", "/conformance", "/catalogs", "/children", "/collections", "/queryables", "/search"),
            *_under("/stac", "/search", "/aggregations", "/aggregate", method="POST"),
            f"POST {_CATALOG}/search",
            *_under("", "/sources", "/lineage/v1/events", "/trace/api/v1/traces/obsolete", "/_mgmt/metrics"),
            *_under("/raster", "/collections", "/wmts", "/WMTSCapabilities.xml", "/wms", "/searches/", "/searches/list"),
        ),
    ),
    Rule(
        "entries of the log",
        "A bundle of leaves, which name products and people: it is there for who may see the event of every one of them.",
        ("GET /lineage/v1/log/tile/entries/{path}",),
    ),
    Rule(
        "reading a collection",
        "",
        (
            *_under("/stac/collections/{collection_id}", "", "/items", "/sortables", "/queryables", "/aggregations", "/aggregate"),
            *_under("/stac/collections/{collection_id}", "/aggregations", "/aggregate", method="POST"),
            *_under(f"{_CATALOG}/collections/{{collection_id}}", "", "/items"),
            *_under("/raster/collections/{collection_id}/density/{z}/{x}/{y}", "", ".{format}"),
        ),
        _READ,
    ),
    Rule(
        "reading the tiles of a collection",
        "Of the items that the caller may see; one that he may not see leaves no pixel, no value and no name.",
        (
            *_under(f"/raster{_COLLECTION}", "", "/info", *_MOSAIC),
            *_under(f"/raster{_COLLECTION}", *_FEATURES, method="POST"),
        ),
        _READ,
    ),
    Rule(
        "registered searches",
        "Everybody may register one (`FEDERATOR_ANONYMOUS_SEARCHES`). A person's is his alone, unless he has made it public; that of "
        "nobody in particular is for who has its id, and is in nobody's list. Whoever uses one sees the items in it that he may see. "
        "It is removed by whom it belongs to.",
        (
            *_under("/raster/searches/{search_id}", "/info", *_MOSAIC),
            *_under("/raster/searches/{search_id}", *_FEATURES, method="POST"),
            "POST /raster/searches/register",
            "DELETE /raster/searches/{search_id}",
        ),
    ),
    Rule(
        "reading an item",
        "An item that is public is seen by those who see its collection.",
        (
            f"GET /stac{_ITEM}",
            f"GET {_CATALOG}{_ITEM}",
            *_under(
                f"/raster{_ITEM}", "/info", "/info.geojson", "/renders", "/renders/{render_id}", "/assets", "/asset_statistics",
                "/statistics", "/tiles",
                "/tiles/{tileMatrixSetId}", "/tiles/{tileMatrixSetId}/{z}/{x}/{y}",
                "/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}", "/map", "/{tileMatrixSetId}/map.html",
                "/{tileMatrixSetId}/tilejson.json", "/point/{lon},{lat}", "/preview", "/preview.{format}",
                "/preview/{width}x{height}.{format}", "/bbox/{minx},{miny},{maxx},{maxy}.{format}",
                "/bbox/{minx},{miny},{maxx},{maxy}/{width}x{height}.{format}", "/WMTSCapabilities.xml", "/wmts", "/wms",
            ),
            *_under(f"/raster{_ITEM}", "/statistics", "/feature", "/feature.{format}", "/feature/{width}x{height}.{format}", method="POST"),
            "GET /uploads/{upload_id}/data.tif",
            "POST /raster/signed",
            *_under("", "/lineage/v1/log/proof/{event_id}", "/trace/api/v1/traces/{trace_id}", "/lineage/v1/traces/{trace_id}/verdict"),
            *_under(
                "/lineage/v1/collections/{collection}/items/{item}", "", ".html", "/lineage", "/versions", "/diff", "/status", "/proof",
            ),
        ),
        _READ,
    ),
    Rule(
        "the graph",
        "A parent that a caller may not see is a node without name, place, time or number, in the place of one or of several; what is "
        "behind it is not shown. A child that he may not see is not there. An edge is for those who see the event that tells it. A product "
        "that only hidden collections have looks like one that nobody has.",
        (
            *_under("/lineage/v1", "/products/{name}/lineage", "/hashes/{digest}/lineage", "/path", "/audit"),
            "GET /lineage/v1/collections/{collection}/orphans",
            *_under("/lineage/v1", "/impact", "/hashes/verify", method="POST"),
        ),
    ),
    Rule(
        "the history of an item",
        "For what a caller may not see the list is empty, as for what never was; it stays so when the item or its collection is gone.",
        _under(
            "", "/lineage/v1/collections/{collection}/items/{item}/events", "/trace/api/v1/traces/name/{name}",
            "/trace/api/v1/traces/hash/{digest}", "/lineage/v1/collections/{collection}/items/{item}/traces",
        ),
        {caller: tuple("empty" if one == "404" else one for one in row) for caller, row in _READ.items()},  # type: ignore[misc]
    ),
    Rule(
        "writing into a collection",
        "The scopes `stac:item:create`, `upload`. `shared` is one who may read; whom the owner names in `writers` may write "
        "as the owner does. Into the collection `uploads` everybody with the scope may upload.",
        ("POST /stac/collections/{collection_id}/items", "POST /stac/collections/{collection_id}/bulk_items", "POST /uploads"),
        _WRITE,
    ),
    Rule(
        "changing a collection, and who sees it",
        "The scopes `stac:collection:update` and `stac:collection:delete`. Writers may not.",
        (
            *(f"{method} /stac/collections/{{collection_id}}" for method in ("PUT", "PATCH", "DELETE")),
            *(f"{method} /sharing/collections/{{collection_id}}" for method in ("GET", "PUT")),
        ),
        _WRITE,
    ),
    Rule(
        "changing an item, and who sees it",
        "The scopes `stac:item:update` and `stac:item:delete`. Writers of the collection may change and delete items that they "
        "see; who sees an item is decided by who uploaded it and by the collection's owner.",
        (
            *(f"{method} /stac{_ITEM}" for method in ("PUT", "PATCH", "DELETE")),
            *(f"{method} /sharing{_ITEM}" for method in ("GET", "PUT")),
            "POST /lineage/v1/collections/{collection}/items/{item}/traces",
        ),
        _WRITE,
    ),
    Rule(
        "telling where an item comes from",
        "The scope `stac:item:update`, and the right to write into the collection.",
        ("POST /lineage/v1/collections/{collection}/items/{item}/documents",),
        _WRITE,
    ),
    Rule(
        "runs and watches",
        "Runs need the scope `stac:item:update`; a run, a data set that only it names, a watch and its webhook are their teller's. Alerts "
        "are what the caller may see when he asks, or what he who set the webhook may see when they are sent.",
        (
            "POST /lineage/v1/runs",
            "GET /lineage/v1/runs/{run_id}",
            *_under("/lineage/v1/watches", "", "/{watch_id}", "/{watch_id}/alerts"),
            "POST /lineage/v1/watches",
            "DELETE /lineage/v1/watches/{watch_id}",
            *(f"{method} /lineage/v1/watches/{{watch_id}}/webhook" for method in ("GET", "PUT", "DELETE")),
        ),
    ),
    Rule(
        "an upload on its way",
        "The scope `upload`. The upload itself is its sender's, however visible its item is.",
        (
            *(f"{method} /uploads/{{upload_id}}" for method in ("GET", "HEAD", "PATCH", "DELETE")),
            "PUT /uploads/{upload_id}/content",
            "PUT /uploads/{upload_id}/datetime",
            "GET /uploads/{upload_id}/parts",
            "POST /uploads/{upload_id}/parts",
            "POST /uploads/{upload_id}/complete",
        ),
        _OWN,
    ),
    Rule(
        "judging traces and hashes",
        "Everybody may ask. Of a product that only hidden items have the answer is the one for a product that was never here.",
        (
            *_under("", "/trace/api/v1/traces/validate", "/trace/api/v1/traces/{productname}/validate"),
            "POST /lineage/v1/verify",
        ),
    ),
    Rule(
        "registering traces",
        "The scope `trace:register`. What is registered is public, with the name of who registered it: [traces.md](traces.md).",
        ("PUT /trace/api/v1/traces",),
    ),
    Rule(
        "making a collection",
        "The scope `stac:collection:create`. An id that is taken is refused with 409 whoever has it: ids of collections are for all.",
        ("POST /stac/collections",),
    ),
    Rule(
        "people and keys",
        "A person sees himself and his keys, an administrator everybody: [people.md](people.md).",
        (
            *_under("", "/.well-known/jwks.json", "/auth/me", "/auth/keys", "/auth/users", "/auth/users/{user_name}", "/auth/groups"),
            "GET /auth/groups/{group_name}",
            "GET /quota",
            *_under(
                "/auth", "/bootstrap", "/token", "/logout", "/password", "/keys", "/users", "/groups", method="POST",
            ),
            "PATCH /auth/users/{user_name}",
            "PATCH /auth/groups/{group_name}",
            "DELETE /auth/groups/{group_name}",
            "DELETE /auth/keys/{key_id}",
        ),
    ),
    Rule(
        "nothing of the catalogue",
        "These tell nothing of collections and items.",
        (
            *_under("/stac", "/conformance", "/_mgmt/ping", "/_mgmt/health"),
            *_under("/raster", "/", "/conformance", "/algorithms", "/algorithms/{algorithmId}"),
            *_under("/raster", "/tileMatrixSets", "/tileMatrixSets/{tileMatrixSetId}", "/colorMaps", "/colorMaps/{colorMapId}"),
            *_under("/lineage/v1/log", "/checkpoint", "/keys", "/consistency", "/tile/{level}/{path}", "/verify.py", "/stamps",
                "/stamps/{size}", "/stamps/{size}/checkpoint"),
            *_under("", "/trace/api/status", "/_mgmt/ping", "/_mgmt/health"),
            *_under("/uploads", "", "/{upload_id}", method="OPTIONS"),
        ),
    ),
)  # fmt: skip


def routes_of(mount: str, description: dict[str, dict[str, dict[str, object]]]) -> Iterator[str]:
    """Every route of an OpenAPI description, as "METHOD /path" with the mount in front."""
    for path, operations in description["paths"].items():
        for method in METHODS:
            if method in operations:
                yield f"{method.upper()} {path if mount and path.startswith(mount) else mount + path}"


def page(routes: Iterable[str]) -> str:
    """The page docs/visibility.md of the routes that there are."""
    there = set(routes)
    parts = [_HEAD]
    for rule in RULES:
        named = [route for route in rule.routes if route in there]
        parts.append(f"## {rule.name[0].upper()}{rule.name[1:]}\n")
        if rule.words:
            parts.append(f"{rule.words}\n")
        if rule.expected:
            lines = ["| caller | private | shared | public |", "| --- | --- | --- | --- |"]
            lines += [f"| {caller} | {' | '.join(row)} |" for caller, row in rule.expected.items()]
            parts.append("\n".join(lines) + "\n")
        parts.append("\n".join(f"- `{route}`" for route in named) + "\n")
    return "\n".join(parts)


_HEAD = """# Who sees what

<!-- Printed by `python -m tests.api.visibility_table`; a test asks the running service for every cell. -->

What a caller may not see does not exist: the answer is the one for what is not there, with the same body and the same
headers, after the same statements of SQL. How to share: [sharing.md](sharing.md).

- `anonymous`: nobody in particular. `other`: a person with all scopes, with whom nothing is shared. `shared`: one whom the
  owner names among the readers, or whose group. `owner`: who made the collection or uploaded the item. `admin`: an
  administrator, or the operator's token.
- `private`: its owner alone. `shared`: its owner, readers and writers. `public`: everybody; of an item: all who see its collection.
- `yes`: it is done, or answered with what is there; `404`, `403` (`NOT_ALLOWED`: seen, but not to be changed) and `401` (nobody in
  particular may write) are problems with a code.
- Answers to a caller who says who he is have `Cache-Control: private, no-store`; all others are kept only to be asked about.
- A change is seen by the next request, in other processes within moments: in kept documents, counts, extents,
  queryables and tiles.
- Two things are told to those who may write: that an item's id is taken within a collection into which they may write, and that a
  collection's id is taken at all (409).
"""


def main() -> None:
    """Print the page of an application with all its parts."""
    from api.main import create_app
    from api.settings import ApiSettings

    app = create_app(ApiSettings(api_token="any"))
    mounted = {"": app} | {route.path: route.app for route in app.routes if getattr(route, "path", "") in MOUNTS[1:]}  # type: ignore[attr-defined]
    routes = [route for mount, one in mounted.items() for route in routes_of(mount, one.openapi())]
    print(page(routes), end="")


if __name__ == "__main__":
    main()
