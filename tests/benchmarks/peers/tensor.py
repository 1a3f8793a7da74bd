"""A PyTorch loop with all images in one uint8 tensor, indexed by a permutation.

Arguments: data.npz, network, epochs, batch size. Prints "first step" after the first step, and at
the end a line of JSON: seconds of each epoch with its validation, validation accuracy.

It does what tinylab does, with these differences: no checkpoint, no log, no test at the end.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn

from torch_networks import build

path, network, epochs, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
data = np.load(path)
names = ("train_images", "train_labels", "val_images", "val_labels")
train_images, train_labels, val_images, val_labels = (torch.from_numpy(data[n]) for n in names)
_, channels, height, _ = train_images.shape
model = build(network, channels, height, int(data["num_classes"]))
loss_function = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters())

seconds = []
is_first = True
for _ in range(epochs):
    started = time.perf_counter()
    model.train()
    loss_sum = 0.0
    for indices in torch.randperm(len(train_labels)).split(batch_size):
        images, labels = train_images[indices].float() / 255, train_labels[indices]
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        if is_first:
            print("first step", flush=True)
            is_first = False
    model.eval()
    num_correct = 0
    with torch.no_grad():
        for images, labels in zip(val_images.split(250), val_labels.split(250), strict=True):
            num_correct += (model(images.float() / 255).argmax(1) == labels).sum().item()
    seconds.append(time.perf_counter() - started)
print(json.dumps({"seconds": seconds, "val_accuracy": num_correct / len(val_labels)}))
