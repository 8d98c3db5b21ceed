"""What each of the other servers does by hand: a JPEG to the scores of the network."""

from typing import Any

import cv2
import numpy as np
import onnxruntime


class Answerer:
    """One session of one thread, as lineside's; safe from several threads."""

    def __init__(self, network: str, *, side: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session: Any = onnxruntime.InferenceSession(
            network, sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._size = (side, side)

    def scores(self, jpeg: bytes) -> list[float]:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert image is not None
        small = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        crops = ((small.transpose(2, 0, 1)[None] - np.float32(127)) / np.float32(128)).astype(
            np.float32
        )
        found: list[float] = self._session.run(["scores"], {"crops": crops})[0][0].tolist()
        return found
