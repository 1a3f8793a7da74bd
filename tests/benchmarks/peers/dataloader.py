"""A PyTorch loop with DataLoader, as the tutorials write it.

Arguments: data.npz, network, epochs, batch size. Prints "first step" after the first step, and at
the end a line of JSON: seconds of each epoch with its validation, validation accuracy.

It does what tinylab does, with these differences: no checkpoint, no log, no test at the end. The
images come decoded, which spares it what ImageFolder does in every epoch.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from torch_networks import build

path, network, epochs, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


class Pictures(Dataset):
    def __init__(self, images, labels, transform):
        self.images = images.transpose(0, 2, 3, 1)  # (N, H, W, C), as ToTensor takes them
        self.labels = labels
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.labels[index])


data = np.load(path)
train = Pictures(data["train_images"], data["train_labels"], ToTensor())
val = Pictures(data["val_images"], data["val_labels"], ToTensor())
train_loader = DataLoader(train, batch_size, shuffle=True)
val_loader = DataLoader(val, 250)
_, height, _, channels = train.images.shape
model = build(network, channels, height, int(data["num_classes"]))
loss_function = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters())

seconds = []
is_first = True
for _ in range(epochs):
    started = time.perf_counter()
    model.train()
    loss_sum = 0.0
    for images, labels in train_loader:
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
        for images, labels in val_loader:
            num_correct += (model(images).argmax(1) == labels).sum().item()
    seconds.append(time.perf_counter() - started)
print(json.dumps({"seconds": seconds, "val_accuracy": num_correct / len(val)}))
