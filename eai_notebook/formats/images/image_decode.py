"""Decode and crop JPEG and PNG images; releases the interpreter lock.

Decoding is nearly all of the work. libjpeg-turbo decodes at half, a quarter or an eighth of the
size for less, where what is cut out is larger than what is wanted by as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.io.memory.thread_buffer import ThreadMemory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from eai_notebook.formats.images.crops import Box, Views

try:
    import cv2
    import simplejpeg
except ImportError as error:
    raise EaiError(
        f"pictures cannot be read without {error.name}",
        "install both libraries with: pip install 'eai_notebook[images]'",
        code="package-missing",
    ) from error

_JPEG: Final = b"\xff\xd8"
_LEAST_SCALE: Final = 8
_TURBO_READS: Final = frozenset({"YCbCr", "Gray", "RGB"})

# The readers work beside each other as it is; threads of threads would only take turns.
cv2.setNumThreads(0)
_memory = ThreadMemory()


def decode_crop(encoded: NDArray[np.uint8], views: Views, into: NDArray[np.uint8]) -> bool:
    """Decode a picture and write a view of it; return whether the bytes are a whole picture.

    Args:
        encoded: A JPEG file's bytes, or another format's that OpenCV knows, such as PNG.
        views: Draws what is seen of it.
        into: uint8 ``[height, width, 3]``, red first; left as it is if there is no picture.
    """
    try:
        if encoded[:2].tobytes() == _JPEG:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
            if colours in _TURBO_READS:
                box = views.box(height, width, encoded)
                _resized(_decoded(encoded, height, width, _scale(box, views)), height, box, into)
                return True
        pixels: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except (ValueError, cv2.error):
        return False
    if pixels is None:
        return False
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    box = views.box(pixels.shape[0], pixels.shape[1], encoded)
    _resized(pixels, pixels.shape[0], box, into)
    return True


def _scale(box: Box, views: Views) -> int:
    """Return by how much the picture may shrink, so that the part is not smaller than wanted."""
    scale = 1
    while (
        scale < _LEAST_SCALE
        and box.height >= 2 * scale * views.height
        and box.width >= 2 * scale * views.width
    ):
        scale *= 2
    return scale


def _decoded(encoded: NDArray[np.uint8], height: int, width: int, scale: int) -> NDArray[np.uint8]:
    """Return the picture's pixels, which hold until this thread decodes again."""
    least = {} if scale == 1 else {"min_height": height // scale, "min_width": width // scale}
    rows, columns = -(-height // scale), -(-width // scale)
    memory = _memory.of(rows * columns * 3)
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        encoded, "RGB", fastdct=True, fastupsample=True, buffer=memory, **least
    )
    return pixels


def _resized(pixels: NDArray[np.uint8], height: int, box: Box, into: NDArray[np.uint8]) -> None:
    """Resize a part given in a picture of `height` rows, of which `pixels` may have fewer."""
    shrunk = pixels.shape[0] / height
    top, left = int(box.top * shrunk), int(box.left * shrunk)
    high, wide = max(int(box.height * shrunk), 1), max(int(box.width * shrunk), 1)
    part: Any = pixels[top : top + high, left : left + wide]
    size = into.shape[1], into.shape[0]
    if box.flip:
        cv2.flip(cv2.resize(part, size), 1, dst=into)
    else:
        cv2.resize(part, size, dst=into)
