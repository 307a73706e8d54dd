"""Images in a request: carried whole as data, bounded, and never fetched from anywhere.

Invariants
- Only PNG, JPEG, WebP or GIF, in canonical base64, whose first bytes are of the kind that it names:
  in a `data:` URL or in a block's source. A remote address would be read by the model server, not
  by us.
- No safeguard reads pixels: text in an image goes unseen. So a stage must open images by name.

Source of the token bound: the most that widely used image encoders make of one picture (16,384
patches after merging). What the model server counts is charged in the end, within this bound.
"""

from __future__ import annotations

from typing import Any, Final

from gatelift.encoding import EncodingError, parse_base64
from gatelift.gateway.dialects.request import DialectError, expect, expect_only

__all__ = [
    "IMAGE_TOKENS_BOUND",
    "MAX_IMAGES",
    "MAX_IMAGE_BYTES",
    "read_detail",
    "read_image",
    "read_source",
]

MAX_IMAGES: Final = 8
MAX_IMAGE_BYTES: Final = 700_000
IMAGE_TOKENS_BOUND: Final = 16_384
_DETAILS: Final = ("auto", "low", "high")
_MARK: Final = ";base64,"


def _is_of(kind: str, data: bytes) -> bool:
    match kind:
        case "image/png":
            return data.startswith(b"\x89PNG\r\n\x1a\n")
        case "image/jpeg":
            return data.startswith(b"\xff\xd8\xff")
        case "image/gif":
            return data.startswith((b"GIF87a", b"GIF89a"))
        case "image/webp":
            return data.startswith(b"RIFF") and data[8:12] == b"WEBP"
        case _:
            return False


def _check(kind: str, text: str, param: str) -> None:
    """Return if `text` is base64 of an image of this kind; raises `DialectError`."""
    # Four characters stand for three bytes: a long text is not worth decoding.
    if len(text) > (MAX_IMAGE_BYTES + 2) // 3 * 4:
        raise DialectError(f"expected {param} of at most {MAX_IMAGE_BYTES} bytes", param=param)
    try:
        data = parse_base64(text)
    except EncodingError as error:
        raise DialectError(f"expected {param} in standard base64", param=param) from error
    if not _is_of(kind, data):
        raise DialectError(
            f"expected {param} to hold a png, jpeg, webp or gif as its type says", param=param
        )


def read_image(value: object, param: str) -> str:
    """Return the URL of an image that stands in it whole; raises `DialectError`."""
    url = expect(value, str, param)
    kind, mark, text = url.removeprefix("data:").partition(_MARK)
    if not url.startswith("data:image/") or not mark:
        raise DialectError(
            f"expected {param} as 'data:image/png;base64,...' (png, jpeg, webp or gif): send the "
            "image itself, nothing is fetched from elsewhere",
            param=param,
        )
    _check(kind, text, param)
    return url


def read_source(value: object, param: str) -> dict[str, Any]:
    """Return the source of an image block, which holds the image whole; raises `DialectError`."""
    source = expect(value, dict, param)
    if source.get("type") != "base64":
        raise DialectError(
            f"expected {param}.type base64: send the image itself, nothing is fetched from elsewhere",
            param=f"{param}.type",
        )
    expect_only(source, frozenset({"type", "media_type", "data"}), param)
    kind = expect(source.get("media_type"), str, f"{param}.media_type")
    text = expect(source.get("data"), str, f"{param}.data")
    _check(kind, text, f"{param}.data")
    return {"type": "base64", "media_type": kind, "data": text}


def read_detail(value: object, param: str) -> str | None:
    """Return how finely an image is to be read, null where it is left open."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in _DETAILS:
        raise DialectError(f"expected {param} to be one of {list(_DETAILS)}", param=param)
    return value
