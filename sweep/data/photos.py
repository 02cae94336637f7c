"""Reads one photo: a JPEG, PNG, BMP, GIF or WebP file to pixels of a given size.

The first frame of an animation counts. EXIF's rotation is applied. What is transparent lies on white. 16-bit pixels lose their
lower byte.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweep.core.errors import ConfigError, require_choice, require_integer
from sweep.core.types import Array

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
FITS = ("crop", "pad", "stretch")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_DEEP = tuple(mode for mode in _GREY if mode.startswith("I"))


class BrokenPhotoError(ValueError):
    """The file is no photo that can be read. The text continues "FILE, which …"."""


@dataclass(frozen=True)
class Shape:
    """What every photo becomes.

    Args:
        height: in pixels, 1 to 4096.
        width: in pixels, 1 to 4096.
        channels: 1 for grey, 3 for RGB.
        fit: what happens to a photo of other proportions: `crop` cuts off what is too long, evenly on both sides; `pad` adds
            black on both sides; `stretch` distorts it.

    Raises:
        ConfigError: for a value outside these ranges.
    """

    height: int
    width: int
    channels: int
    fit: str

    def __post_init__(self) -> None:
        for side in (self.height, self.width):
            require_integer("size", side, 1, 4096)
        if self.channels not in (1, 3):
            raise ConfigError("channels", "1 (grey), 3 (RGB) or null (1 where every photo is grey)", self.channels)
        require_choice("fit", self.fit, FITS)


@dataclass(frozen=True)
class Header:
    """What a photo's file says without its pixels.

    Attributes:
        height: in pixels, after EXIF's rotation.
        width: in pixels, after EXIF's rotation.
        is_grey: whether it has no colours.
    """

    height: int
    width: int
    is_grey: bool


def header(file: Path) -> Header:
    """Reads the header of a photo.

    Raises:
        BrokenPhotoError: for a file that is no photo.
    """
    with _opened(file) as image:
        width, height = image.size
        if image.getexif().get(0x0112, 1) >= 5:  # Orientation: 5 to 8 exchange the axes
            width, height = height, width
        return Header(height, width, _is_grey(image))


def read(file: Path, shape: Shape) -> Array:
    """Reads a photo.

    A side that becomes shorter is averaged over the area of each new pixel; one that becomes longer is interpolated (bicubic).
    A JPEG of more than twice the size is decoded at a half, a quarter or an eighth of its resolution, by its own transform.

    Returns:
        uint8 (height, width, channels).

    Raises:
        BrokenPhotoError: for a file that is no photo, or a damaged one.
    """
    from PIL import ImageOps

    with _opened(file) as image:
        longest = 2 * max(shape.height, shape.width)
        image.draft(None, (longest, longest))
        opaque = _opaque(ImageOps.exif_transpose(image)).convert("L" if shape.channels == 1 else "RGB")
        pixels = np.asarray(_fitted(opaque, shape), np.uint8)
    return pixels.reshape(shape.height, shape.width, shape.channels)


@contextmanager
def strict() -> Iterator[None]:
    """Refuses photos of more than 89 million pixels, which Pillow only warns of. Not to be entered by several threads."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")  # about EXIF that is damaged
        yield


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Opens a photo. Whatever Pillow raises while it is used is a BrokenPhotoError: damaged files raise nearly anything."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=FORMATS) as image:
            yield image
    except BrokenPhotoError:
        raise
    except UnidentifiedImageError as error:
        raise BrokenPhotoError(f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BrokenPhotoError("has more than 89 million pixels") from error
    except OSError as error:
        reason = error.strerror or "is damaged or cut short"
        raise BrokenPhotoError(reason if error.strerror is None else f"cannot be read ({reason})") from error
    except Exception as error:
        raise BrokenPhotoError(f"is damaged ({' '.join(str(error).split())[:100] or type(error).__name__})") from error


def _is_grey(image: Image.Image) -> bool:
    if image.mode != "P":
        return image.mode in _GREY
    palette = np.frombuffer(image.convert("RGB").tobytes(), np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _opaque(image: Image.Image) -> Image.Image:
    """The image without transparency, of 8 bits."""
    from PIL import Image

    if image.mode in _DEEP:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BrokenPhotoError("has pixels of more than 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise BrokenPhotoError("has floating-point pixels")
    if not image.has_transparency_data:
        return image
    above = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)


def _fitted(image: Image.Image, shape: Shape) -> Image.Image:
    """The image at the size of `shape`."""
    from PIL import Image

    width, height = image.size
    if shape.fit == "stretch":
        return _resized(image, shape.width, shape.height, (0, 0, width, height))
    # A rectangle of the wanted proportions: the largest within the photo to crop, the smallest around it to pad.
    within = min(width / shape.width, height / shape.height)
    if shape.fit == "crop":
        left, top = (width - within * shape.width) / 2, (height - within * shape.height) / 2
        return _resized(image, shape.width, shape.height, (left, top, width - left, height - top))
    scale = max(width / shape.width, height / shape.height)
    across, down = min(max(round(width / scale), 1), shape.width), min(max(round(height / scale), 1), shape.height)
    canvas = Image.new(image.mode, (shape.width, shape.height))
    inner = _resized(image, across, down, (0, 0, width, height))
    canvas.paste(inner, ((shape.width - across) // 2, (shape.height - down) // 2))
    return canvas


def _resized(image: Image.Image, width: int, height: int, box: tuple[float, float, float, float]) -> Image.Image:
    """A rectangle (left, top, right, bottom) of the image at another size."""
    from PIL import Image

    left, top, right, bottom = box
    across, down = (
        Image.Resampling.BOX if before > after else Image.Resampling.BICUBIC
        for before, after in ((right - left, width), (bottom - top, height))
    )
    if across is down:
        return image.resize((width, height), across, box)
    narrowed = image.resize((width, image.height), across, (left, 0, right, image.height))
    return narrowed.resize((width, height), down, (0, top, width, bottom))
