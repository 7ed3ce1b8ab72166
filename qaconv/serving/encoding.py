"""Encode image files with a served model, in a pool of threads."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.crops import read_crop
from qaconv.runtime.model import ServedModel
from qaconv.runtime.quantise import Codes
from qaconv.serving.stored_maps import quantise_maps

Encoded = TypeVar("Encoded")

BATCH = 16  # crops encoded by one thread at a time: the fastest, and a search waits for no more than that
LULL_S = 1.0  # between two enrolments of one client at most


class CropEncoder:
    """A pool of one thread a core that encodes crops, and runs other work on maps."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="model")
        self._enrolling = threading.Lock()  # held by the enrolment whose crops are decoded
        self._enrolled_s = -LULL_S  # end of the last enrolment
        self._decoding = threading.Semaphore(os.cpu_count() or 1)  # batches at once; an image may take 50 MB

    @property
    def is_enrolling(self) -> bool:
        """Whether an enrolment is at work, or ended less than LULL_S ago."""
        return self._enrolling.locked() or time.monotonic() - self._enrolled_s < LULL_S

    def encode(self, model: ServedModel, images: Sequence[bytes], camids: Sequence[int]) -> NDArray[np.float32]:
        """Encode image files as maps [n, C, h, w].

        Args:
            model: encodes them.
            images: the files.
            camids: camera of each in the model's profile of its target, [n]; see `places.camids_for`.

        Raises:
            InputError: an image is refused.
        """
        maps = [task.result() for task in self._submit(model.encode, model, images, camids)]
        return np.concatenate(maps) if maps else np.empty((0, *model.map_shape), dtype=np.float32)

    def encode_to_store(self, model: ServedModel, images: Sequence[bytes], camids: Sequence[int]) -> Codes:
        """Encode image files as codes [n, S, C], as they are stored: the same before and after a restart.

        Enrolments decode their crops in turn. Decoding at the same time, they would slow each other down and end
        together.

        Args:
            model, images, camids: as of `encode`.

        Raises:
            InputError: an image is refused.
        """

        def encode(crops: NDArray[np.uint8], cameras: Sequence[int]) -> Codes:
            return quantise_maps(model.encode(crops, cameras))

        with self._enrolling:
            tasks = self._submit(encode, model, images, camids)
        parts = [task.result() for task in tasks] or [quantise_maps(np.empty((0, *model.map_shape), np.float32))]
        self._enrolled_s = time.monotonic()
        return Codes(*map(np.concatenate, zip(*parts, strict=True)))

    def _submit(
        self,
        encode: Callable[[NDArray[np.uint8], Sequence[int]], Encoded],
        model: ServedModel,
        images: Sequence[bytes],
        camids: Sequence[int],
    ) -> list[Future[Encoded]]:
        """Start encoding; the caller's thread decodes a batch while the pool encodes those before."""
        batches = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
        return [self.pool.submit(encode, self._decode(model, images[batch]), camids[batch]) for batch in batches]

    def _decode(self, model: ServedModel, images: Sequence[bytes]) -> NDArray[np.uint8]:
        crops = np.empty((len(images), *model.crop_size, 3), dtype=np.uint8)
        with self._decoding:
            for row, image in enumerate(images):
                crops[row] = read_crop(image, *model.crop_size)
        return crops
