"""One small module a command; each has a ``main(arguments)``."""

# Command -> what it does, in the order of the help.
COMMANDS = {
    "train": "train one config, or with -m a sweep",
    "work": "join the workers that share a sweep",
    "compare": "settings with intervals over their seeds, and which beats which",
    "report": "one HTML page on finished runs: tables, verdicts, figures",
    "predict": "classify image files with a finished run",
    "explain": "show where a network looks, and the training images that resemble an image",
    "evaluate": "score a finished run on other labelled data, or an ensemble of runs",
    "inspect": "likely label errors, copies and odd images in the data of finished runs",
    "export": "write a network as ONNX, torch.export or weights, checked",
    "sync": "send finished runs to MLflow or Weights & Biases",
    "verify": "prove that a run, killed and resumed here, ends with the same bits",
    "list": "show what runs there are, by config and figures",
    "remove": "delete runs, or decoded images, after asking",
    "cite": "BibTeX entries for tinylab, and a run's dataset and methods",
    "doctor": "look at libraries, device, data and disks; say what to mend",
    "completion": "print what makes the TAB key complete all this",
}
