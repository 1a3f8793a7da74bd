"""The commands, one small module each, with a function ``main(arguments)``."""

# Command -> description, in the order of the help.
COMMANDS = {
    "train": "train one config, or a sweep with -m",
    "work": "join a shared sweep as a worker",
    "compare": "compare settings: confidence intervals and tests over seeds",
    "report": "write an HTML report of finished runs: tables, tests, figures",
    "predict": "classify image files with a finished run",
    "explain": "explain predictions: Grad-CAM and the most similar training images",
    "evaluate": "evaluate a finished run, or an ensemble of runs, on labeled data",
    "inspect": "find likely label errors, duplicates and outliers in the data of finished runs",
    "export": "export a network to ONNX, torch.export or a state_dict, and check it",
    "sync": "send finished runs to MLflow or Weights & Biases",
    "verify": "check that a killed and resumed run is bit-identical on this machine",
    "list": "list runs, filtered by config and metrics",
    "remove": "delete runs or cached images, after asking",
    "cite": "print BibTeX entries for tinylab and a run's dataset and methods",
    "doctor": "check libraries, device, data and disks",
    "completion": "print a shell completion script",
}
