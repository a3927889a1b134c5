"""State what a report's numbers hold for: data, target, adversaries, machine."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from mipoison.eval.report import tables
from mipoison.eval.report.markdown import described
from mipoison.eval.report.tables import with_deviation


def conditions(results: Mapping[str, Any]) -> str:
    """Returns the list, and the errors of answers that ignore the confidences.

    Args:
        results: what results.json holds.
    """
    configuration, environment = results["configuration"], results["environment"]
    adversary = configuration["adversary"]
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    seeds = ", ".join(map(str, configuration["seeds"]))
    return (
        f"<ul><li>Data: {escape(described(configuration))}. Pixels in [0, 1]; disjoint "
        "roles, drawn anew for each seed. SSIM: Gaussian window of 11×11 pixels, or the largest odd "
        f"width below a smaller image's side (7×7 for 8×8), data range 1. Seeds: {seeds}.</li>"
        f"<li>Target: {_target(results)}</li>"
        f"<li>A2: two hidden layers of {adversary['width']}, {adversary['epochs']} epochs, batch "
        f"{adversary['batch']}, on standardised vectors; A3: also {adversary['wide_width']} wide, "
        f"{adversary['wide_epochs']} epochs, batch {adversary['wide_batch']}, raw and raw+log "
        f"(floor {adversary['log_floor']:g}{_deep(adversary)}), nearest neighbours "
        f"{', '.join(map(str, adversary['neighbours']))} on raw and on log, the means "
        "of the MLPs' answers, and label only. "
        f"{_losses(adversary)}"
        f"{_decoders(adversary)}"
        "The MLPs predict principal components of the images, AdamW with a one-cycle schedule, peak "
        f"{adversary['learning_rate']:g}. Of the auxiliary rows {adversary['held_out']} are "
        "kept back to choose among variants.</li>"
        "<li>Noise: the scale is fitted on the defender's data to the mean l1 in the name. LPA: "
        "the number in the name is the cap on a row's l1. LFP: the share of flipped rows.</li>"
        f"<li>Machine: {escape(environment['processor'])}, {environment['cores']} cores, "
        f"adversaries trained on {escape(', '.join(_devices(results)))}, "
        f"{environment['processes']} processes of {environment['threads_per_process']} thread, "
        f"Python {environment['python']}; {versions}; {environment['date']}.</li></ul>"
        + tables.conditions_table(results["summary"])
    )


def _deep(adversary: Mapping[str, Any]) -> str:
    floor = adversary.get("deep_floor")
    return "" if floor is None else f"; another to {floor:g}"


def _devices(results: Mapping[str, Any]) -> list[str]:
    """Where the cells' adversaries were trained."""
    return sorted({cell.get("adversaries_on", "cpu") for cell in results["cells"]})


def _target(results: Mapping[str, Any]) -> str:
    """Names the classifier that is defended, how it was trained, and how good it is."""
    configuration = results["configuration"]
    measured = next(iter(results["summary"].values()))["target"]
    own, other = (
        with_deviation(measured[key], 1, scale=100) for key in ("private_accuracy", "accuracy")
    )
    kinds = {
        "mlp": "one hidden layer of 128",
        "cnn": "three convolutions of 16, 32 and 64 channels",
        "yang": "Yang et al.'s convolutional classifier from 32 channels",
        "yang-full": "Yang et al.'s convolutional classifier from 128 channels",
        "resnet": "a residual network of three blocks from 16 channels",
    }
    ways = {
        "": "",
        "nls": ", defended by negative label smoothing",
        "vib": ", defended by an information bottleneck",
        "bido": ", defended by bilateral dependency",
    }
    name, _, way = configuration["target"].partition("+")
    way, _, strength = way.partition(":")
    weight = f" of strength {strength}" if strength else ""
    kind = kinds.get(name)
    made = (
        f"{escape(configuration['target'])}, not trained by this harness unless it is an estimator"
        if kind is None
        else f"{kind}{ways[way]}{weight}, {configuration['target_epochs']} epochs, batch 32, AdamW 2e-3"
    )
    return f"{made}; accuracy {own} % on its own rows, {other} % on the victims."


def _losses(adversary: Mapping[str, Any]) -> str:
    """Names the losses other than the squared error that wide networks were trained for, if any."""
    if not adversary.get("losses"):
        return ""
    return f"Other wide networks on raw+log were trained for {', '.join(adversary['losses'])}. "


def _decoders(adversary: Mapping[str, Any]) -> str:
    """Describes the convolutional decoders among the variants, if any."""
    if not adversary.get("decoders"):
        return ""
    kinds = ", ".join(map(escape, adversary["decoders"]))
    return (
        f"Decoders of transposed convolutions from {adversary['decoder_channels']} channels, "
        f"{adversary['decoder_epochs']} epochs: {kinds}. "
    )
