"""The baseline CNN on MNIST as PyTorch's tutorials write it: torchvision, DataLoader, ToTensor.

Prints the seconds of each epoch as JSON. Arguments: the data root, epochs, batch size.
"""

import json
import sys
import time

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader

root, epochs, batch_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = torchvision.datasets.MNIST(root, transform=torchvision.transforms.ToTensor())
loader = DataLoader(data, batch_size, shuffle=True)
model = nn.Sequential(
    nn.Conv2d(1, 28, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(28 * 13 * 13, 128), nn.ReLU(),
    nn.Dropout(0.2), nn.Linear(128, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters())
loss_function = nn.CrossEntropyLoss()
seconds = []
for _ in range(epochs):
    start = time.perf_counter()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
