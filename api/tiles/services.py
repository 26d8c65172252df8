"""What WMTS and WMS share: names of parameters in any case, exceptions as the client reads them, empty pictures, templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import jinja2
import numpy as np
from rio_tiler.models import ImageData
from starlette.requests import Request
from starlette.responses import Response

from api.tiles import avif

XML: Final = "text/xml; charset=utf-8"
#: Media types of pictures, and what rio-tiler calls their formats.
FORMATS: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
    avif.MEDIA_TYPE: "avif",
    "image/tiff": "tif",
}
_DRIVERS: Final = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "tif": "GTiff"}
_PAGES: Final = jinja2.Environment(
    autoescape=True, loader=jinja2.PackageLoader("api.tiles", "templates"), trim_blocks=True, lstrip_blocks=True
)


class ServiceError(Exception):
    """What a client asks wrongly, or what is not there: a code of the service's standard and words."""

    def __init__(self, code: str, text: str, *, locator: str = "", status: int = 400) -> None:
        super().__init__(text)
        self.code, self.text, self.locator, self.status = code, text, locator, status


class Asked:
    """Parameters of a request: those of the service's standard by name in upper case, and all others, which are for the tile routes."""

    def __init__(self, request: Request, names: frozenset[str]) -> None:
        pairs = request.query_params.multi_items()
        self.own: dict[str, str] = {name.upper(): value for name, value in pairs if name.upper() in names}
        self.others = [(name, value) for name, value in pairs if name.upper() not in names]

    def get(self, name: str, default: str = "") -> str:
        """A parameter's value."""
        return self.own.get(name, default)

    def need(self, name: str) -> str:
        """A parameter that must be there.

        Raises:
            ServiceError
        """
        if not (value := self.own.get(name, "")):
            raise ServiceError("MissingParameterValue", f"{name} is missing", locator=name)
        return value

    def whole(self, name: str, most: int) -> int:
        """A whole number from 0 on.

        Raises:
            ServiceError
        """
        text = self.need(name)
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= most):
            raise ServiceError("InvalidParameterValue", f"{name} is a whole number up to {most}", locator=name)
        return int(text)


def page(name: str, values: Mapping[str, Any], *, status: int = 200, kind: str = XML) -> Response:
    """A document made of one of our templates; every value is escaped."""
    text = _PAGES.get_template(name).render(**values)
    return Response(text, status_code=status, headers={"Content-Type": kind})


def blank(width: int, height: int, name: str, background: tuple[int, int, int] | None = None) -> bytes:
    """A picture of nothing: transparent, or of a colour."""
    if background is None and name != "jpeg":
        array = np.ma.MaskedArray(np.zeros((3, height, width), "uint8"), mask=True)
    else:
        colour = np.array(background or (255, 255, 255), "uint8").reshape(3, 1, 1)
        array = np.ma.MaskedArray(np.broadcast_to(colour, (3, height, width)).copy(), mask=False)
    return drawn(array, name, with_mask=background is None)


def drawn(array: Any, name: str, *, with_mask: bool, alpha: Any = None) -> bytes:
    """Bands of bytes as a picture, with how opaque each pixel is where that is more than its mask; JPEG has no mask."""
    image = ImageData(array, alpha_mask=alpha)
    if name == "avif":
        return avif.encode(image.data, image.mask if with_mask else None)
    return bytes(image.render(add_mask=with_mask and name != "jpeg", img_format=_DRIVERS[name]))
