"""Lightning with its ordinary DataLoader, checkpoint and logger.

Arguments: data.npz, network, epochs, batch size. Prints "first step" after the first step, and at
the end a line of JSON: seconds of each epoch with its validation, validation accuracy.

It does what tinylab does, with these differences: no test at the end; a CSV file where tinylab
writes TensorBoard's. The images come decoded, which spares it what ImageFolder does in every epoch.
"""

import json
import sys
import tempfile
import time
import warnings

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from torch_networks import build

path, network, epochs, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
warnings.filterwarnings("ignore", ".*does not have many workers.*")  # more of them are not faster


class Pictures(Dataset):
    def __init__(self, images, labels, transform):
        self.images = images.transpose(0, 2, 3, 1)  # (N, H, W, C), as ToTensor takes them
        self.labels = labels
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.labels[index])


class Classifier(lightning.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, batch, batch_index):
        images, labels = batch
        loss = F.cross_entropy(self.model(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_index):
        images, labels = batch
        accuracy = (self.model(images).argmax(1) == labels).float().mean()
        self.log("val_accuracy", accuracy, batch_size=len(labels))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Clock(lightning.Callback):
    def __init__(self):
        self.times = []

    def on_train_epoch_start(self, trainer, module):
        self.times.append(time.perf_counter())

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        if trainer.global_step == 1:
            print("first step", flush=True)

    def on_train_end(self, trainer, module):
        self.times.append(time.perf_counter())


data = np.load(path)
train = Pictures(data["train_images"], data["train_labels"], ToTensor())
val = Pictures(data["val_images"], data["val_labels"], ToTensor())
_, height, _, channels = train.images.shape
clock = Clock()
with tempfile.TemporaryDirectory() as folder:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=[clock],
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        Classifier(build(network, channels, height, int(data["num_classes"]))),
        DataLoader(train, batch_size, shuffle=True),
        DataLoader(val, 250),
    )
seconds = [end - start for start, end in zip(clock.times, clock.times[1:])]  # noqa: B905
val_accuracy = float(trainer.callback_metrics["val_accuracy"])
print(json.dumps({"seconds": seconds, "val_accuracy": val_accuracy}))
