"""State what a report's numbers hold for: data, target, adversaries, machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mipoison.eval.report.markdown import described, share
from mipoison.eval.targets.stored import STORED

_NETWORKS: Final = {
    "mlp": "one hidden layer of 128",
    "cnn": "three convolutions of 16, 32 and 64 channels",
    "yang": "Yang et al.'s convolutional classifier from 32 channels",
    "resnet": "a residual network of three blocks from 16 channels",
}
_RETRAINED: Final = {
    "": "",
    "nls": ", defended by negative label smoothing",
    "vib": ", defended by an information bottleneck",
    "bido": ", defended by bilateral dependency",
}


def conditions(results: Mapping[str, Any]) -> list[str]:
    """Returns one text a subject.

    Args:
        results: what results.json holds.
    """
    configuration, environment = results["configuration"], results["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    seeds = ", ".join(map(str, configuration["seeds"]))
    devices = sorted({cell["adversaries_on"] for cell in results["cells"]})
    return [
        f"Data: {described(configuration)}. Pixels in [0, 1]; disjoint roles, drawn anew for each seed. SSIM: Gaussian "
        "window of 11×11 pixels, or the largest odd width below a smaller image's side (7×7 for 8×8), data range 1. "
        f"Seeds: {seeds}.",
        f"Target: {_target(results)}",
        _adversaries(configuration["adversary"]),
        "Noise: the scale is fitted on the defender's data to the mean l1 in the name. LPA: the number in the name is "
        "the cap on a row's l1. LFP: the share of flipped rows.",
        f"Machine: {environment['processor']}, {environment['cores']} cores, adversaries trained on "
        f"{', '.join(devices)}, {environment['processes']} processes of {environment['threads_per_process']} thread, "
        f"Python {environment['python']}; {versions}; {environment['date']}.",
    ]


def _target(results: Mapping[str, Any]) -> str:
    """Names the classifier that is defended, how it was trained, and how good it is."""
    configuration = results["configuration"]
    measured = next(iter(results["summary"].values()))["target"]
    own, other = (share(measured[key], 1) for key in ("private_accuracy", "accuracy"))
    name, _, way = configuration["target"].partition("+")
    outside = (
        "answers stored with the images, of a classifier that was not there"
        if name == STORED
        else f"{configuration['target']}, not trained by this harness unless it is an estimator"
    )
    way, _, strength = way.partition(":")
    weight = f" of strength {strength}" if strength else ""
    made = (
        f"{_NETWORKS[name]}{_RETRAINED[way]}{weight}, {configuration['target_epochs']} epochs, batch 32, AdamW 2e-3"
        if name in _NETWORKS
        else outside
    )
    if measured["accuracy"]["mean"] is None:
        return f"{made}; its accuracy is not known, since the victims' true classes among its own are not."
    on_own = "" if measured["private_accuracy"]["mean"] is None else f"{own} on its own rows, "
    return f"{made}; accuracy {on_own}{other} on the victims."


def _recovery(draws: int) -> str:
    """Describes the adversary who simulates the defenses."""
    if not draws:
        return ""
    return (
        f" Who recovers undefended vectors first: from the answers to the adversary's own rows, and also from {draws} "
        "answers a row that are simulated under keys of their own."
    )


def _adversaries(adversary: Mapping[str, Any]) -> str:
    """Describes the networks and look-ups of the standard and the adaptive adversary."""
    floor = adversary["deep_floor"]
    deep = "" if floor is None else f"; another to {floor:g}"
    losses = decoders = ""
    if adversary["losses"]:
        losses = (
            f"Other wide networks on raw+log were trained for {', '.join(adversary['losses'])}. "
        )
    if adversary["decoders"]:
        decoders = (
            f"Decoders of transposed convolutions from {adversary['decoder_channels']} channels, "
            f"at most {adversary['decoder_epochs']} epochs: {', '.join(adversary['decoders'])}. "
        )
    return (
        f"Standard adversary: two hidden layers of {adversary['width']}, at most {adversary['epochs']} epochs, batch "
        f"{adversary['batch']}, on standardised vectors; adaptive: also {adversary['wide_width']} wide, at most "
        f"{adversary['wide_epochs']} epochs, batch {adversary['wide_batch']}, raw and raw+log (floor "
        f"{adversary['log_floor']:g}{deep}), nearest neighbours {', '.join(map(str, adversary['neighbours']))} on raw "
        f"and on log, the means of the MLPs' answers, and label only. {losses}{decoders}"
        f"The MLPs predict principal components of the images, AdamW at {adversary['learning_rate']:g}, running "
        f"averages of the weights. Of the auxiliary rows {adversary['held_out']} are kept back: training ends after "
        f"{adversary['patience']} epochs without a smaller error there, the weights of the best epoch are kept, and "
        "the variant of the smallest error is chosen. (A network's error there is the least of many epochs, and that "
        "of a look-up is not: the choice leans a little toward networks.) The chosen variant is then trained again on "
        "all auxiliary rows, as many epochs, and enters as a further variant; look-ups use all rows."
        f"{_recovery(adversary['recovery_draws'])}"
    )
