"""What QGIS lists of connections and draws of layers. Run by the interpreter that has its Python API, not by ours.

Reads a task as JSON from standard input: `connections` (name: URL of a WMS or WMTS), `view` (west, south, east, north in degrees), `places`
(name: longitude, latitude), `background`, and `layers`: each by the names that lead to it in the browser's tree (`path`) or by `provider`
and `uri`; `crs` of the map, `day` of the temporal controller, a place to `identify`, a `picture` to keep.
Writes `listed` (connection: path of each layer) and `drawn` (colours at the places, what was complained of) to the last line.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsDateTimeRange,
    QgsLayerItem,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPointXY,
    QgsProject,
    QgsRaster,
    QgsRasterInterface,
    QgsRasterLayer,
    QgsRectangle,
    QgsSettings,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QSize, Qt, QTime
from qgis.PyQt.QtGui import QColor

DEGREES = QgsCoordinateReferenceSystem("EPSG:4326")
SIZE = QSize(560, 440)
#: Entries of the browser, which crash when Python forgets them before QGIS does.
KEPT: list[Any] = []


def listed(connections: dict[str, str]) -> dict[tuple[str, ...], tuple[str, str]]:
    """URI and provider of layers by the names that lead to them in the tree of the browser."""
    for name, url in connections.items():
        QgsSettings().setValue(f"qgis/connections-wms/{name}/url", url)
    (provider,) = [one for one in QgsApplication.dataItemProviderRegistry().providers() if one.name() == "WMS"]
    found = {}

    def walk(entry: Any, path: tuple[str, ...]) -> None:
        if isinstance(entry, QgsLayerItem):
            found[path] = (entry.uri(), entry.providerKey())
        children = entry.children() or entry.createChildren()
        KEPT.append(children)
        for below in children:
            walk(below, (*path, below.name()))

    root = provider.createDataItem("", None)
    KEPT.append(root)
    walk(root, ())
    return found


def drawn(
    task: dict[str, Any], asked: dict[str, Any], uri: str, provider: str, complaints: list[str]
) -> dict[str, Any]:
    """A layer on a ground of one colour."""
    _heard(complaints)
    complaints.clear()
    layer = QgsRasterLayer(uri, "drawn", provider)
    if not layer.isValid():
        return {"uri": uri, "complaints": [layer.error().message(), *complaints], "colours": {}}
    settings = QgsMapSettings()
    crs = QgsCoordinateReferenceSystem(asked["crs"]) if "crs" in asked else layer.crs()
    to_map = QgsCoordinateTransform(DEGREES, crs, QgsProject.instance())
    settings.setDestinationCrs(crs)
    settings.setOutputSize(SIZE)
    settings.setBackgroundColor(QColor(*task["background"]))
    settings.setLayers([layer])
    settings.setExtent(to_map.transformBoundingBox(QgsRectangle(*task["view"])))
    if "day" in asked:
        day = QDate.fromString(asked["day"], "yyyy-MM-dd")
        begin = QDateTime(day, QTime(0, 0), Qt.UTC)
        layer.temporalProperties().setIsActive(True)
        settings.setIsTemporal(True)
        settings.setTemporalRange(QgsDateTimeRange(begin, begin.addSecs(24 * 3600 - 1)))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    if "picture" in asked:
        image.save(asked["picture"])
    return {
        "uri": uri,
        "crs": layer.crs().authid(),
        "extent": _extent(layer),
        "times": _times(layer),
        "complaints": [one.message for one in job.errors()] + _heard(complaints),
        "identified": _identified(layer, settings, to_map, asked["identify"]) if "identify" in asked else {},
        "colours": {name: _colour(image, settings, to_map, place) for name, place in task["places"].items()},
    }


def _colour(image: Any, settings: Any, to_map: Any, place: list[float]) -> list[int]:
    pixel = settings.mapToPixel().transform(to_map.transform(QgsPointXY(*place)))
    colour = QColor(image.pixel(int(pixel.x()), int(pixel.y())))
    return [colour.red(), colour.green(), colour.blue()]


def _identified(layer: Any, settings: Any, to_map: Any, place: list[float]) -> dict[str, str]:
    """What the tool for identifying says at a place, in each format that the layer has."""
    provider, found = layer.dataProvider(), {}
    point = QgsCoordinateTransform(DEGREES, layer.crs(), QgsProject.instance()).transform(QgsPointXY(*place))
    box = QgsCoordinateTransform(settings.destinationCrs(), layer.crs(), QgsProject.instance()).transformBoundingBox(
        settings.extent()
    )
    for name, format_, able in (
        ("feature", QgsRaster.IdentifyFormatFeature, QgsRasterInterface.IdentifyFeature),
        ("text", QgsRaster.IdentifyFormatText, QgsRasterInterface.IdentifyText),
        ("html", QgsRaster.IdentifyFormatHtml, QgsRasterInterface.IdentifyHtml),
        ("value", QgsRaster.IdentifyFormatValue, QgsRasterInterface.IdentifyValue),
    ):
        if provider.capabilities() & able:
            result = provider.identify(point, format_, box, SIZE.width(), SIZE.height())
            found[name] = _written(result.results()) if result.isValid() else f"error: {result.error().message()}"
    return found


def _written(results: dict[Any, Any]) -> Any:
    """A text, or a row of attributes for each feature."""
    rows = []
    for value in results.values():
        if not isinstance(value, list):
            return str(value)
        for store in value:
            for feature in store.features():
                rows.append(dict(zip(feature.fields().names(), map(str, feature.attributes()), strict=True)))
    return rows


def _heard(complaints: list[str]) -> list[str]:
    QgsApplication.processEvents()  # threads send them
    return list(complaints)


def _extent(layer: Any) -> list[float]:
    """West, south, east, north in degrees."""
    box = QgsCoordinateTransform(layer.crs(), DEGREES, QgsProject.instance()).transformBoundingBox(layer.extent())
    return [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]


def _times(layer: Any) -> list[str]:
    """First and last moment of what the temporal controller is offered; none: the layer has no time."""
    provider = layer.dataProvider()
    able = provider.temporalCapabilities() if provider else None
    if able is None or not able.hasTemporalCapabilities():
        return []
    span = able.availableTemporalRange()
    return [span.begin().toString(Qt.ISODate), span.end().toString(Qt.ISODate)]


def main() -> None:
    """Answer the task."""
    task = json.load(sys.stdin)
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    complaints: list[str] = []
    application.messageLog().messageReceived.connect(lambda text, tag="", level=0: complaints.append(f"{tag}: {text}"))
    by_path = listed(task["connections"])
    answers = {}
    for name, asked in task["layers"].items():
        if "path" in asked and tuple(asked["path"]) not in by_path:
            answers[name] = {"complaints": ["it is not listed"], "colours": {}}
            continue
        uri, provider = by_path[tuple(asked["path"])] if "path" in asked else (asked["uri"], asked["provider"])
        answers[name] = drawn(task, asked, uri, provider, complaints)
    print(json.dumps({"listed": list(by_path), "drawn": answers}), flush=True)
    os._exit(0)  # see `KEPT`


if __name__ == "__main__":
    main()
