"""Decode and crop JPEG and PNG images; releases the interpreter lock.

Most of the time is spent in decoding. libjpeg-turbo can decode faster at 1/2, 1/4 or 1/8 of the
size, if the crop is still at least as large as the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.io.memory.thread_buffer import ThreadMemory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from eai_notebook.formats.images.crops import Box, CropSampler

try:
    import cv2
    import simplejpeg
except ImportError as error:
    raise EaiError(
        f"images cannot be read without {error.name}",
        "install the image libraries: pip install 'eai_notebook[images]'",
        code="package-missing",
    ) from error

_JPEG: Final = b"\xff\xd8"
_MAX_SCALE: Final = 8
_TURBO_READS: Final = frozenset({"YCbCr", "Gray", "RGB"})

# The readers are threads already; more threads in OpenCV would only compete with them.
cv2.setNumThreads(0)
_memory = ThreadMemory()


def decode_crop(encoded: NDArray[np.uint8], crops: CropSampler, target: NDArray[np.uint8]) -> bool:
    """Decode an image and write a crop of it to `target`; return False if it cannot be decoded.

    Args:
        encoded: The bytes of a JPEG file, or of another format that OpenCV reads, such as PNG.
        crops: Draws the crop.
        target: Receives uint8 ``[height, width, 3]``, RGB; unchanged if the result is False.
    """
    try:
        if encoded[:2].tobytes() == _JPEG:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
            if colours in _TURBO_READS:
                box = crops.box(height, width, encoded)
                _resized(_decoded(encoded, height, width, _scale(box, crops)), height, box, target)
                return True
        pixels: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except (ValueError, cv2.error):
        return False
    if pixels is None:
        return False
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    box = crops.box(pixels.shape[0], pixels.shape[1], encoded)
    _resized(pixels, pixels.shape[0], box, target)
    return True


def _scale(box: Box, crops: CropSampler) -> int:
    """Return the largest factor to shrink by that leaves the crop at least as large as the result."""
    scale = 1
    while (
        scale < _MAX_SCALE
        and box.height >= 2 * scale * crops.height
        and box.width >= 2 * scale * crops.width
    ):
        scale *= 2
    return scale


def _decoded(encoded: NDArray[np.uint8], height: int, width: int, scale: int) -> NDArray[np.uint8]:
    """Return the image's pixels, in a buffer that this thread's next call overwrites."""
    least = {} if scale == 1 else {"min_height": height // scale, "min_width": width // scale}
    rows, columns = -(-height // scale), -(-width // scale)
    memory = _memory.of(rows * columns * 3)
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        encoded, "RGB", fastdct=True, fastupsample=True, buffer=memory, **least
    )
    return pixels


def _resized(pixels: NDArray[np.uint8], height: int, box: Box, target: NDArray[np.uint8]) -> None:
    """Resize a crop to `target`; `box` refers to `height` rows, `pixels` may be a smaller image."""
    shrunk = pixels.shape[0] / height
    top, left = int(box.top * shrunk), int(box.left * shrunk)
    high, wide = max(int(box.height * shrunk), 1), max(int(box.width * shrunk), 1)
    part: Any = pixels[top : top + high, left : left + wide]
    size = target.shape[1], target.shape[0]
    if box.flip:
        cv2.flip(cv2.resize(part, size), 1, dst=target)
    else:
        cv2.resize(part, size, dst=target)
