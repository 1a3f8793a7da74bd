"""Keras on TensorFlow, as its users write it: ``compile`` and ``fit``.

Arguments: data.npz, network, epochs, batch size. Prints "first step" after the first step, and at
the end a line of JSON: seconds of each epoch with its validation, validation accuracy.

It does what tinylab does, with these differences: no checkpoint, no log, no test at the end; all
images are made float32 beforehand, four times the memory; Adam has Keras's small constant (1e-7).
"""

import json
import sys
import time

import keras
import numpy as np
from keras import layers

path, network, epochs, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def baseline(inputs):
    maps = layers.MaxPooling2D(2)(layers.Conv2D(28, 3)(inputs))
    features = layers.Dense(128, activation="relu")(layers.Flatten()(maps))
    return layers.Dropout(0.2)(features)


def resnet(inputs):
    maps = layers.ReLU()(convolution(inputs, 32, 3, 1))
    for width in (32, 64, 128, 256):
        stride = 1 if width == 32 else 2
        out = layers.ReLU()(convolution(maps, width, 3, stride))
        out = convolution(out, width, 3, 1)
        shortcut = maps if width == 32 else convolution(maps, width, 1, stride)
        maps = layers.ReLU()(layers.Add()([out, shortcut]))
    return layers.GlobalAveragePooling2D()(maps)


def convolution(maps, width, kernel_size, stride):
    convolved = layers.Conv2D(width, kernel_size, stride, padding="same", use_bias=False)(maps)
    # Keras's own momentum, 0.99, has hardly left the initial statistics after an epoch of 63 steps:
    # its validation accuracy was 0.1 where training had 0.6. This is torch's default.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(convolved)


class Clock(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.times = []

    def on_epoch_begin(self, epoch, logs=None):
        self.times.append(time.perf_counter())

    def on_train_batch_end(self, batch, logs=None):
        if len(self.times) == 1 and batch == 0:
            print("first step", flush=True)

    def on_train_end(self, logs=None):
        self.times.append(time.perf_counter())


data = np.load(path)
train_images, val_images = (
    (data[name].transpose(0, 2, 3, 1) / np.float32(255)) for name in ("train_images", "val_images")
)
inputs = keras.Input(train_images.shape[1:])
features = {"baseline": baseline, "resnet": resnet}[network](inputs)
outputs = layers.Dense(int(data["num_classes"]), activation="softmax")(features)
model = keras.Model(inputs, outputs)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
clock = Clock()
history = model.fit(
    train_images,
    data["train_labels"],
    batch_size,
    epochs,
    verbose=0,
    callbacks=[clock],
    validation_data=(val_images, data["val_labels"]),
    validation_batch_size=250,
)
seconds = [end - start for start, end in zip(clock.times, clock.times[1:])]  # noqa: B905
print(json.dumps({"seconds": seconds, "val_accuracy": history.history["val_accuracy"][-1]}))
