"""The output of an evaluation; a run's own folder is not changed."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from tinylab.config import code, options
from tinylab.config.identity import file_name, identity
from tinylab.config.metrics import with_interval
from tinylab.config.schema import Config
from tinylab.evaluate.scope import Scope
from tinylab.evaluate.scores import Scores
from tinylab.inference import Ensemble
from tinylab.store import predictions
from tinylab.store.folder import EvaluationFolder
from tinylab.system.files import write_bytes, write_json
from tinylab.system.runtime import environment
from tinylab.ui import plots
from tinylab.ui.console import say
from tinylab.ui.tables import Column, aligned, fitted

SHOWN = 30  # maximum number of classes in the table on the screen
LONGEST = 40  # maximum length of a class name there
MEASURES = ("recall", "precision", "F1")


def folder_of(ensemble: Ensemble, config: Config, scope: Scope) -> EvaluationFolder:
    """Return ``<outputs>/evaluations/<run>-on-<dataset>-<hash>``, equal for equal requests."""
    names = [member.name for member in ensemble.members]
    asked = [sorted(names), identity(config.dataset), scope.part, scope.fingerprint]
    if ensemble.first.calibration is not None:
        asked.append("calibrated")
    if any(member.config.train.tta != member.result.tta for member in ensemble.members):
        asked.append({"train.tta": ensemble.first.config.train.tta})
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    who = names[0] if len(names) == 1 else f"ensemble-of-{len(names)}"
    name = f"{who}-on-{file_name(config.dataset.name)}-{digest[:10]}"
    return EvaluationFolder(Path(config.outputs).expanduser() / "evaluations" / name)


def show(
    ensemble: Ensemble,
    members: list[Scores],
    whole: Scores,
    scope: Scope,
    dataset: str,
    handling: str,
    before: Scores | None,
) -> None:
    """Show the metrics: of each member if there are several, then of all, also by class.

    before: those without the calibration, if the command has made one.
    """
    for member, scores in zip(ensemble.members, members, strict=True):
        alone = f"  accuracy {accuracy(scores)}" if len(members) > 1 else ""
        say(f"run     {member.name}{alone}")
    say(f"data    {dataset}, {scope.part}: {len(scope.labels):,} images, {_learnt(scope)}")
    if scope.alike:
        say(f"        {scope.alike:,} others resemble training images (re-encoded or resized?)")
    if handling:
        say(f"        {handling}")
    say(f"result  {_result(ensemble, whole, before)}")
    if views := _views(ensemble):
        say(f"        {views}")
    if whole.own:
        words = [f"{name} {'-' if value is None else f'{value:.4f}'}"
                 for name, value in whole.own.items()]  # fmt: skip
        say(f"        {', '.join(words)}")
    _show_classes(whole)


def _result(ensemble: Ensemble, whole: Scores, before: Scores | None) -> str:
    bins = whole.reliability
    loss = f"{_loss_of(ensemble)} {whole.score.loss:.4f}"
    error = f"calibration error {bins.error:.2%}"
    if before is None:
        return f"accuracy {accuracy(whole)}, {loss}, {error} (ECE, {len(bins.counts)} bins)"
    return (
        f"calibrated: accuracy {accuracy(whole)}, {loss} (before {before.score.loss:.4f}), "
        f"{error} (before {before.reliability.error:.2%})"
    )


def _views(ensemble: Ensemble) -> str:
    """Describe the test-time augmentation; empty if neither this evaluation nor a run has any."""
    own = ", ".join(dict.fromkeys(member.result.tta for member in ensemble.members))
    used = ", ".join(dict.fromkeys(member.config.train.tta for member in ensemble.members))
    if used == own:
        return "" if own == "none" else f"with train.tta={own}"
    return f"with train.tta={used} (in the run: {own})"


def _loss_of(ensemble: Ensemble) -> str:
    """What the loss of an evaluation is called: of runs with a loss of the user's it is not theirs.

    That one needs logits, of which several runs, or a calibrated one, have none in common.
    """
    is_plain = all(options.of(member.config.loss).is_plain for member in ensemble.members)
    return "loss" if is_plain else "NLL"


def _learnt(scope: Scope) -> str:
    """Describe which of the images were used in training, compared by index and pixels."""
    if scope.learnt == 0 and not scope.is_known:
        return "possibly including training images, which are not known here"
    if scope.learnt == 0:
        how = "" if scope.is_own else ", compared by pixels"
        return f"none of them seen in training{how}"
    return (
        f"{scope.learnt:,} of them used for training ({scope.trained:,}) or selection: not an "
        "estimate for new images"
    )


def accuracy(scores: Scores) -> str:
    """As in ``98.88% (95% CI 96.02–99.69)``."""
    return with_interval(scores.score.accuracy, *scores.interval)


def _show_classes(scores: Scores) -> None:
    rows = [row for row in scores.by_class() if row["num"] > 0]
    if len(rows) > SHOWN:
        say(f"the {SHOWN} of {len(rows)} classes with the lowest recall:")
        rows = sorted(rows, key=lambda row: row["recall"])[:SHOWN]
    columns = [
        Column(("", "class"), [fitted(row["class"], LONGEST) for row in rows], is_words=True),
        Column(("", "images"), [f"{row['num']:,}" for row in rows]),
        *(Column(("", name), [_percent(row[name.lower()]) for row in rows]) for name in MEASURES),
    ]
    say("\n" + "\n".join(aligned(columns)))


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.2%}"


def write(
    folder: EvaluationFolder,
    ensemble: Ensemble,
    config: Config,
    members: list[Scores],
    whole: Scores,
    scope: Scope,
    command: str,
) -> None:
    """Write the metrics, the predictions and two figures to ``folder``."""
    loss = {} if _loss_of(ensemble) == "loss" else {"loss": None}
    title = f"accuracy {accuracy(whole)}"
    confusion = plots.confusion(whole.confusion, whole.classes, title)
    bins = whole.reliability
    reliability = plots.reliability(
        bins.counts, bins.accuracy, f"calibration error {bins.error:.2%}"
    )
    predictions.write(
        folder.predictions_file, scope.index, scope.labels, whole.predicted, whole.probabilities,
        scope.paths,
    )  # fmt: skip
    write_bytes(folder.confusion_file, plots.to_png(plots.render(confusion)))
    write_bytes(folder.reliability_file, plots.to_png(plots.render(reliability)))
    write_json(
        folder.report_file,
        {
            "command": command,
            "runs": [
                {
                    "run_id": member.name,
                    "tta": member.config.train.tta,
                    **scores.score.as_dict(),
                    **loss,
                    "accuracy_ci95": scores.interval,
                }
                for member, scores in zip(ensemble.members, members, strict=True)
            ],
            "dataset": {
                **dataclasses.asdict(config.dataset),
                "fingerprint": scope.fingerprint,
                "classes": list(whole.classes),
                "part": scope.part,
                "num_learnt": scope.learnt,
                "num_trained": scope.trained,
                "num_alike": scope.alike,
            },
            **whole.as_dict(),
            **loss,
            "environment": _environment(ensemble),
        },
    )
    say(f"\nfiles   {folder.path}")


def _environment(ensemble: Ensemble) -> dict[str, Any]:
    device = ensemble.first.recipe.device
    return {**environment(device), "code_sha256": code.of_result(ensemble.first.config)}
