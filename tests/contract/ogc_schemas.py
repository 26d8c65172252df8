"""Holds documents against the schemas of the OGC, as MapProxy brings them for its own tests (unchanged from schemas.opengis.net).

Run by the interpreter of the contract tests' environment: `python ogc_schemas.py FILE...`; writes each fault as a line.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import mapproxy
from lxml import etree

SCHEMAS: Final = Path(mapproxy.__file__).parent / "test" / "schemas"
#: What describes a document, by its root and its version.
DESCRIBED_BY: Final = {
    ("{http://www.opengis.net/wmts/1.0}Capabilities", "1.0.0"): "wmts/1.0/wmtsGetCapabilities_response.xsd",
    ("{http://www.opengis.net/ows/1.1}ExceptionReport", "1.1.0"): "ows/1.1.0/owsExceptionReport.xsd",
    ("{http://www.opengis.net/wms}WMS_Capabilities", "1.3.0"): "wms/1.3.0/capabilities_1_3_0.xsd",
    ("{http://www.opengis.net/ogc}ServiceExceptionReport", "1.3.0"): "wms/1.3.0/exceptions_1_3_0.xsd",
    ("WMT_MS_Capabilities", "1.1.1"): "wms/1.1.1/capabilities_1_1_1.dtd",
    ("ServiceExceptionReport", "1.1.1"): "wms/1.1.1/exception_1_1_1.dtd",
}


def faults(document: Path) -> list[str]:
    """What is wrong with a document."""
    tree = etree.parse(document, etree.XMLParser(no_network=True, resolve_entities=False))
    root = tree.getroot()
    path = SCHEMAS / DESCRIBED_BY[(root.tag, root.get("version"))]
    if path.suffix == ".dtd":
        with path.open() as file:
            judge = etree.DTD(file)
    else:
        judge = etree.XMLSchema(etree.parse(path, etree.XMLParser(no_network=True)))
    judge.validate(tree)
    return [f"{document.name}:{one.line}: {one.message}" for one in judge.error_log]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for fault in faults(Path(name)):
            print(fault)
