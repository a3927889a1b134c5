"""The schemas of the operators, by which torch knows their arguments and results."""

from __future__ import annotations

from typing import Final

SCHEMAS: Final = (
    "project(Tensor z, Tensor? p, Tensor? t, float? epsilon, str norm, float margin, bool shrink)"
    " -> (Tensor, Tensor)",
    "step(Tensor q, Tensor g, Tensor? p, Tensor? t, float alpha, float? epsilon, str norm,"
    " float margin, bool shrink) -> (Tensor, Tensor)",
    "move(Tensor p, Tensor target, float? epsilon, str norm, str style) -> (Tensor, Tensor)",
    "flip(Tensor p, Tensor? targets, float rate, Tensor key, str style) -> (Tensor, Tensor, Tensor)",
    "row_bits(Tensor p, Tensor key, int draw, float grid, int words) -> Tensor",
    "quantize(Tensor p, Tensor codewords, Tensor? offsets) -> (Tensor, Tensor, Tensor)",
    # Small networks on [p, log p], packed by `reference.network.Layers`.
    "recover(Tensor p, Tensor network, int members, int width, int outputs) -> (Tensor, Tensor)",
    "pull(Tensor q, Tensor goal, Tensor network, int members, int width, bool smooth)"
    " -> (Tensor, Tensor, Tensor)",
    "distances(Tensor answers, Tensor goal, Tensor network, int members, int width) -> Tensor",
    "perturb(Tensor p, Tensor goal, Tensor network, int members, int width, Tensor? center, Tensor? near,"
    " int steps, float alpha, float? epsilon, str norm, float margin, bool shrink, bool smooth)"
    " -> (Tensor, Tensor)",
    # For defenses.
    "clean(Tensor p) -> (Tensor, Tensor)",
    "label_of(Tensor x) -> Tensor",
    "lead(Tensor q, Tensor p) -> Tensor",
    "distance(Tensor q, Tensor p, str norm) -> Tensor",
    "lose_label(Tensor q, Tensor given, Tensor label, int first, int last) -> Tensor",
    "soften(Tensor p, float temperature, float floor) -> Tensor",
    "stray(Tensor q, Tensor p, str norm, float least, float most, float ahead) -> (Tensor, Tensor)",
    "keyed_step(Tensor p, Tensor? seen, Tensor key, float grid, float alpha, float epsilon, str norm) -> Tensor",
    "approach(Tensor p, Tensor vectors, Tensor places, Tensor shares) -> (Tensor, Tensor)",
    "solitary(Tensor p, Tensor vectors, Tensor start, Tensor count, float same, float noise, Tensor spread) -> Tensor",
    "pick_each(Tensor p, Tensor vectors, Tensor start, Tensor count, float same, float noise, Tensor words)"
    " -> (Tensor, Tensor)",
    "nearest(Tensor p, Tensor vectors, Tensor start, Tensor count, float same, float noise, Tensor word,"
    " int slots, int subsets) -> Tensor",
    "choose_move(Tensor p, Tensor vectors, Tensor start, Tensor count, float same, float noise,"
    " Tensor predicted, Tensor recovered, Tensor words, int slots, float epsilon, str norm, float weight, bool root)"
    " -> (Tensor, Tensor)",
    # The forms that write into a given tensor return all but the rows.
    "project_out(Tensor z, Tensor? p, Tensor? t, float? epsilon, str norm, float margin, bool shrink,"
    " Tensor(a!) out) -> Tensor",
    "step_out(Tensor q, Tensor g, Tensor? p, Tensor? t, float alpha, float? epsilon, str norm,"
    " float margin, bool shrink, Tensor(a!) out) -> Tensor",
    "quantize_out(Tensor p, Tensor codewords, Tensor? offsets, Tensor(a!) out) -> (Tensor, Tensor)",
    "perturb_out(Tensor p, Tensor goal, Tensor network, int members, int width, Tensor? center, Tensor? near,"
    " int steps, float alpha, float? epsilon, str norm, float margin, bool shrink, bool smooth,"
    " Tensor(a!) out) -> Tensor",
    # For csrc/stable.h only, which finds out with it whether one of four tensors requires grad.
    "_joined(Tensor a, Tensor b, Tensor c, Tensor d) -> Tensor",
    # `project` by a backend that is chosen by name, with the same derivative.
    "_project_by(Tensor z, Tensor? p, Tensor? t, float? epsilon, str norm, float margin, bool shrink,"
    " str backend) -> (Tensor, Tensor)",
    # The derivative is an operator, so that traced graphs contain it as one node.
    "project_vjp(Tensor v, Tensor z, Tensor? p, Tensor? t, float? epsilon, str norm, float margin,"
    " bool shrink) -> Tensor",
)
