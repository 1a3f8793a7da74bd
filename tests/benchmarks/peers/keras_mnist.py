"""The baseline CNN on MNIST as Keras's users write it. Prints the seconds of each epoch as JSON.

Arguments: the folder with MNIST/raw, epochs, batch size.
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

raw, epochs, batch_size = Path(sys.argv[1]) / "MNIST" / "raw", int(sys.argv[2]), int(sys.argv[3])
pixels = np.fromfile(raw / "train-images-idx3-ubyte", np.uint8)[16:]
images = (pixels.reshape(-1, 28, 28, 1) / 255).astype("float32")
labels = np.fromfile(raw / "train-labels-idx1-ubyte", np.uint8)[8:].astype("int64")

model = keras.Sequential([
    keras.Input((28, 28, 1)),
    layers.Conv2D(28, 3),
    layers.MaxPooling2D(2),
    layers.Flatten(),
    layers.Dense(128, activation="relu"),
    layers.Dropout(0.2),
    layers.Dense(10, activation="softmax"),
])  # fmt: skip
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])


class Clock(keras.callbacks.Callback):
    seconds: list[float] = []  # noqa: RUF012

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


model.fit(images, labels, batch_size, epochs, verbose=0, callbacks=[Clock()])
print(json.dumps(Clock.seconds))
