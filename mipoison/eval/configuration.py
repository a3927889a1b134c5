"""Say what an experiment consists of, completely: the same configuration, the same numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

import tyro

from mipoison.defenses.defended import TEMPERATURES
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.data.catalogue import check_auxiliary, check_dataset
from mipoison.eval.methods import Method
from mipoison.eval.scalars import real, several, whole
from mipoison.eval.targets.own import FILES, is_outside
from mipoison.eval.targets.stored import STORED
from mipoison.eval.targets.training import choices, known


@dataclass(frozen=True)
class Configuration:
    """One experiment: every defense against every adversary, in each cell (seed, temperature).

    The command line is made of it: what stands here is its help, and a preset its defaults.

    Attributes:
        seeds: one independent repetition each; develop on seeds from 100 up, publish 0, 1, 2.
        temperatures: softmax temperatures that the target is served at.
        methods: the defenses compared; "none" and "label-only" must be among them.
        checked_methods: defenses for which the adversaries are also trained twice as long.
        worst_case_methods: keyed defenses that are also attacked by repeated queries, by an adversary who knows all but
            the key, and by one who holds it, see `adversaries.repeated`; each takes as long as twenty other defenses.
        dataset: digits, mnist, fashion, orl, orl-64, npz:FILE, folder:FOLDER, idx:FOLDER, lfw:FOLDER, lfw-48:FOLDER,
            torchvision:NAME or huggingface:NAME; the last two download. See `mipoison.eval.data.loading.split`.
        adversary: how hard the adversaries try.
        target: the target classifier: mlp, cnn, yang or resnet, alone or retrained to leak less: mlp+nls
            (negative label smoothing), mlp+vib (information bottleneck), mlp+bido (bilateral dependency), at a strength
            of their own if wanted (mlp+nls:-0.1). Or one of yours: a file of TorchScript (.pt, .ts) or torch.export
            (.pt2) that takes images [n, 1, H, W], "module:name" of a callable like that, of an estimator with
            predict_proba, or of a class of estimators, which is fitted on the private rows. Or "stored": the answers
            lie beside the images, "outputs" or "logits" of an npz, and no classifier is needed.
        target_epochs: passes of the target classifier over the private rows.
        auxiliary: what the adversary's queries show: the "same" classes as the target's, or a third of the classes,
            which the target does not know ("other"), as with faces of other people.
        evaluator: who recognises the reconstructions, in place of a network that is trained here: a file of TorchScript
            (.pt, .ts) or torch.export (.pt2), or "module:name" of a callable, from images [n, 1, H, W] to embeddings
            [n, E], of faces say. A victim is recognised if the private rows nearest on average are of its class.
        lpips: file of AlexNet's weights and of LPIPS's, for that measure, see docs/guides/evaluate-your-classifier.md.
        victims_shown: victims in the picture, the first of each class in the split's order.

    Raises:
        ValueError: if a part is missing, unknown, named twice or out of its range.
    """

    seeds: tuple[int, ...]
    temperatures: tuple[float, ...]
    methods: Annotated[tuple[Method, ...], tyro.conf.Suppress]
    checked_methods: tuple[str, ...] = ("none",)
    worst_case_methods: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    dataset: str = "digits"
    adversary: AdversarySettings = field(default_factory=AdversarySettings)
    target: str = "mlp"
    target_epochs: int = 20
    auxiliary: str = "same"
    victims_shown: int = 10
    evaluator: str | None = None
    lpips: str | None = None

    def __post_init__(self) -> None:
        self._take_numbers()
        check_dataset(self.dataset)
        check_auxiliary(self.auxiliary)
        if not known(self.target) and not is_outside(self.target) and self.target != STORED:
            raise ValueError(
                f"target: expected {choices()}, {STORED!r}, module:name or a file of {', '.join(FILES)}, "
                f"got {self.target!r}"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: expected at least one, all different, got {self.seeds}")
        low, high = TEMPERATURES
        if not self.temperatures or not all(low <= heat <= high for heat in self.temperatures):
            raise ValueError(
                f"temperatures: expected numbers in [{low:g}, {high:g}], got {self.temperatures}"
            )
        # As reports write them.
        if len({f"{heat:g}" for heat in self.temperatures}) < len(self.temperatures):
            raise ValueError(f"temperatures: expected different ones, got {self.temperatures}")
        names = [method.name for method in self.methods]
        if len(set(names)) != len(names):
            raise ValueError(f"methods: expected different names, got {names}")
        for needed in ("none", "label-only"):
            if needed not in names:
                raise ValueError(f"methods: expected {needed!r} among them, got {names}")
        if not set(self.worst_case_methods) <= set(names):
            raise ValueError(
                f"worst_case_methods: expected names out of {names}, got {self.worst_case_methods}"
            )
        if self.evaluator is not None and not is_outside(self.evaluator):
            raise ValueError(
                f"evaluator: expected module:name or a file of {', '.join(FILES)}, got {self.evaluator!r}"
            )
        if self.worst_case_methods and self.target == STORED:
            raise ValueError(
                f"worst_case_methods: expected none for the target {STORED!r}, got {self.worst_case_methods}; they ask "
                "about altered images, whose answers are not stored"
            )
        if "none" not in self.checked_methods or not set(self.checked_methods) <= set(names):
            raise ValueError(
                f"checked_methods: expected 'none' and others out of {names}, "
                f"got {self.checked_methods}"
            )

    def _take_numbers(self) -> None:
        """Makes seeds of any integer type the same seed, and so on: streams and files are named by what is written."""
        taken = {
            "seeds": tuple(whole("seeds", seed) for seed in several("seeds", self.seeds)),
            "temperatures": tuple(
                real("temperatures", heat) for heat in several("temperatures", self.temperatures)
            ),
            "target_epochs": whole("target_epochs", self.target_epochs, least=1),
            "victims_shown": whole("victims_shown", self.victims_shown, least=1),
        }
        for name in ("methods", "checked_methods", "worst_case_methods"):
            taken[name] = several(name, getattr(self, name))
        for name, value in taken.items():
            object.__setattr__(self, name, value)

    @property
    def cells(self) -> tuple[tuple[int, float], ...]:
        """All (seed, temperature) pairs, in the order they are started."""
        return tuple((seed, heat) for seed in self.seeds for heat in self.temperatures)

    def with_methods(self, names: tuple[str, ...]) -> Configuration:
        """Keeps the named defenses, "none" and "label-only", in their present order.

        Raises:
            ValueError: if a name is unknown.
        """
        known = [method.name for method in self.methods]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"methods: expected names out of {known}, got {unknown}")
        wanted = {"none", "label-only", *names}
        return replace(
            self,
            methods=tuple(method for method in self.methods if method.name in wanted),
            checked_methods=tuple(name for name in self.checked_methods if name in wanted),
            worst_case_methods=tuple(name for name in self.worst_case_methods if name in wanted),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the configuration as plain JSON values."""
        plain = asdict(self)
        for method in plain["methods"]:
            method["options"] = dict(method["options"])
        # So that a run without them is the one that it was before there were any.
        return {
            name: value
            for name, value in plain.items()
            if name not in ("evaluator", "lpips") or value is not None
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Configuration:
        """Rebuilds a configuration from `to_json`'s answer.

        Raises:
            ValueError: if there are names that a configuration does not have.
        """
        known = {item.name for item in fields(cls)}
        if not set(plain) <= known:
            raise ValueError(f"configuration: expected keys out of {sorted(known)}, got {plain}")
        methods = tuple(
            Method(**{**method, "options": tuple(method["options"].items())})
            for method in plain["methods"]
        )
        adversary = dict(plain["adversary"])
        for name in {"neighbours", "decoders", "losses"} & set(adversary):
            adversary[name] = tuple(adversary[name])
        return cls(
            **{
                **plain,
                "seeds": tuple(plain["seeds"]),
                "temperatures": tuple(plain["temperatures"]),
                "checked_methods": tuple(plain["checked_methods"]),
                "worst_case_methods": tuple(plain["worst_case_methods"]),
                "methods": methods,
                "adversary": AdversarySettings(**adversary),
            }
        )
