"""What a product's own metadata say of its making: SAFE manifests, Sentinel-2 tile metadata, Landsat MTL. Hostile input, pure.

XML is read by expat with entities refused and everything counted; nothing is fetched. Forms: Sentinel-1 and -3 `manifest.safe` and
`xfdumanifest.xml` nest `resource {name, role}` and `processing {name, facility, software}`; Sentinel-2 `MTD_TL.xml` has `L1C_TILE_ID`;
Landsat Collection 2 `*_MTL.txt` and `.xml` have the Level-1 `LANDSAT_PRODUCT_ID` in `LEVEL1_PROCESSING_RECORD`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from lineage.names import Name, stem_of
from lineage.rules import AUX, INPUT, R2, parent_of_tile

MAX_BYTES = 8 * 2**20
MAX_ELEMENTS, MAX_DEPTH, MAX_TEXT = 200_000, 64, 1000
MAX_PARENTS, MAX_SOFTWARE = 2000, 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{5,199}", re.ASCII)


class DocumentInvalid(Exception):
    """The document cannot be read; the message says why, in our words."""


@dataclass(frozen=True, slots=True)
class Told:
    """One parent: of the product itself (`child` ""), or of one of its ancestors."""

    child: str
    parent: str
    role: str


@dataclass(slots=True)
class Lineage:
    """What a document says. `tile` is an L1C_TILE_ID; `software` and `facility` are of the last step."""

    kind: str
    parents: list[Told] = field(default_factory=list)
    tile: str | None = None
    software: dict[str, str] = field(default_factory=dict)
    facility: str | None = None
    product: str | None = None


@dataclass(slots=True)
class _Element:
    name: str
    attributes: dict[str, str]
    resource: str = ""
    text: str = ""


def read(data: bytes) -> Lineage:
    """Read a document of any of the known forms.

    Raises:
        DocumentInvalid: too large, no such form, or XML that is not well-formed or has a document type.
    """
    if len(data) > MAX_BYTES:
        raise DocumentInvalid(f"a document has at most {MAX_BYTES} bytes")
    head = data[:400].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<"):
        return _Reader().read(data)
    if head.startswith(b"GROUP"):
        return _mtl_text(data)
    raise DocumentInvalid("neither XML nor an MTL file")


class _Reader:
    """One pass over XML; the stack has open elements by their local names."""

    def __init__(self) -> None:
        self._stack: list[_Element] = []
        self._number = 0
        self._parents: dict[Told, None] = {}
        self._found = Lineage("xml")
        self._mtl_group_ids: dict[str, str] = {}

    def read(self, data: bytes) -> Lineage:
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        try:
            parser.Parse(data, True)
        except expat.ExpatError:
            raise DocumentInvalid("the XML is not well-formed") from None
        except (UnicodeError, LookupError, ValueError):
            raise DocumentInvalid("the XML is in an encoding that is not read") from None
        found = self._found
        found.parents = list(self._parents)
        level1 = self._mtl_group_ids.get("LEVEL1_PROCESSING_RECORD")
        if level1:
            found.kind, found.product = "landsat-mtl", self._mtl_group_ids.get("PRODUCT_CONTENTS")
            found.parents.append(Told("", level1, INPUT))
        elif found.tile:
            found.kind = "sentinel-2-tile"
        elif found.parents or found.software:
            found.kind = "safe-manifest"
        return found

    def _refuse(self, *_: Any) -> int:
        raise DocumentInvalid("a document type or entities are not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._number += 1
        if self._number > MAX_ELEMENTS or len(self._stack) >= MAX_DEPTH:
            raise DocumentInvalid("the XML has too many elements, or is nested too deeply")
        element = _Element(name.rpartition(":")[2], attributes)
        if element.name == "resource":
            element.resource = self._resource(attributes)
        elif element.name == "software" and attributes.get("name") and not self._within_resource():
            if len(self._found.software) >= MAX_SOFTWARE:
                raise DocumentInvalid(f"more than {MAX_SOFTWARE} programs")
            self._found.software[attributes["name"][:200]] = attributes.get("version", "")[:100]
        elif element.name == "facility" and attributes.get("name") and not self._within_resource():
            self._found.facility = attributes["name"][:200]
        self._stack.append(element)

    def _within_resource(self) -> bool:
        return any(one.name == "resource" for one in self._stack)

    def _resource(self, attributes: dict[str, str]) -> str:
        """The name of a resource that is a product or an auxiliary file; "" of documents, raw data without names, unknown ones."""
        role = attributes.get("role", "")
        name = stem_of(attributes.get("name", "")[:MAX_TEXT])
        if not _NAME.fullmatch(name) or name == "Unknown" or "_" not in name or role.casefold().endswith("document"):
            return ""
        if len(self._parents) >= MAX_PARENTS:
            raise DocumentInvalid(f"more than {MAX_PARENTS} resources")
        of = next((one.resource for one in reversed(self._stack) if one.name == "resource"), None)
        if of == "" or of == name:  # made of something that has no name
            return ""
        self._parents[
            Told(of or "", name, AUX if "AUX" in role or "_AUX_" in name or name.startswith("AUX_") else INPUT)
        ] = None
        return name

    def _characters(self, text: str) -> None:
        if self._stack and len(self._stack[-1].text) < MAX_TEXT:
            self._stack[-1].text += text

    def _end(self, name: str) -> None:
        element = self._stack.pop()
        text = element.text.strip()
        if element.name == "L1C_TILE_ID":
            self._found.tile = text[:200]
        elif element.name == "LANDSAT_PRODUCT_ID" and self._stack and _NAME.fullmatch(text):
            self._mtl_group_ids.setdefault(self._stack[-1].name, text)
        elif (
            element.name == "PROCESSING_SOFTWARE_VERSION"
            and text
            and self._stack[-1].name != "LEVEL1_PROCESSING_RECORD"
        ):
            self._found.software["landsat"] = text[:100]


_MTL_LINE = re.compile(r'\s*([A-Z0-9_]{1,80})\s*=\s*"?([^"\r\n\0]{0,400})"?\s*')


def _mtl_text(data: bytes) -> Lineage:
    found, group = Lineage("landsat-mtl"), ""
    for number, line in enumerate(data.decode("ascii", "replace").splitlines()):
        if number > MAX_ELEMENTS:
            raise DocumentInvalid("the file has too many lines")
        match = _MTL_LINE.fullmatch(line[:600])
        if match is None:
            continue
        key, value = match.groups()
        if key == "GROUP":
            group = value.strip()
        elif key == "LANDSAT_PRODUCT_ID" and _NAME.fullmatch(value):
            if group != "LEVEL1_PROCESSING_RECORD":
                found.product = found.product or value
            elif not found.parents:
                found.parents.append(Told("", value, INPUT))
        elif key == "PROCESSING_SOFTWARE_VERSION" and group != "LEVEL1_PROCESSING_RECORD":
            found.software["landsat"] = value
    return found


def inputs_of(found: Lineage, child: Name | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str | None]:
    """(`inputs`, `derivations`, the name that the tile's parent would have) for an event of the product (`lineage.projection`)."""
    told = {"rule": R2.id, "assertion": R2.assertion, "confidence": R2.confidence}
    inputs = [{"name": one.parent, "role": one.role, **told} for one in found.parents if not one.child]
    derivations = [
        {"child": one.child, "name": one.parent, "role": one.role, **told} for one in found.parents if one.child
    ]
    wanted = parent_of_tile(child, found.tile) if child is not None and found.tile else None
    return inputs, derivations, wanted
