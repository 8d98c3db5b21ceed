"""The least that makes a classifier of the same images: a part of ``training_speed.py``.

    python benchmarks/training_peer.py NETWORK.onnx FOLDER MODEL.npz

Each image is decoded, stretched to 224 x 224 and put through the network on one thread; a logistic
regression is fitted to its features. Nothing is held out, measured, explained or kept for later.
"""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

network, folder, model = (Path(one) for one in sys.argv[1:])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(network, options)
with (folder / "labels.csv").open() as file:
    rows = list(csv.DictReader(file))
features = []
for row in rows:
    image = cv2.imread(str(folder / row["file"]))
    assert image is not None
    crop = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)[:, :, ::-1]
    values = (crop.astype(np.float32).transpose(2, 0, 1)[None] - 127) / 128
    features.append(session.run(None, {"crops": values})[0][0])
fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1000))
fitted.fit(np.array(features), [row["label"] for row in rows])
np.savez(model, coefficients=fitted[-1].coef_, intercepts=fitted[-1].intercept_)
