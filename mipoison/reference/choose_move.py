"""The move toward a bank vector that is worth most: by how much adversaries err on it, less a penalty."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.reference.bank import others
from mipoison.reference.project import distance as length
from mipoison.reference.rounding import label_of

# Shares of the way toward a bank vector.
SHARES: Final = (1.0, 0.5, 0.25)
# Each vector takes one bit of a keyed word.
BITS: Final = 32
# At most this many entries are compared at a time.
_ENTRIES: Final = 1 << 20


class Moves(NamedTuple):
    """Moves of rows toward their label's vectors.

    Attributes:
        score: the adversaries' error on the row itself, and then for each share on each slot, float32
            [N, 1 + shares · slots]; −∞ where the key excludes the move.
        spent: their l1 moves, of the same shape.
        place: which vectors of the bank, int64 [N, slots].
        solitary: rows whose label has no other vector, bool [N, 1].
    """

    score: Tensor
    spent: Tensor
    place: Tensor
    solitary: Tensor


def penalty(moved: Tensor) -> Tensor:
    """The penalty m + m² on a move of m in l1.

    Under a penalty of m alone, some rows move far and many stay, and an adversary who recognises those reads clean
    vectors. The square makes more rows move, at a small loss of mean gain.
    """
    return moved + moved.square()


def weigh_moves(
    p: Tensor,
    vectors: Tensor,
    start: Tensor,
    count: Tensor,
    same: float,
    noise: float,
    predicted: Tensor,
    recovered: Tensor,
    words: Tensor,
    slots: int,
    epsilon: float,
    norm: str,
    root: bool,
) -> Moves:
    """All moves of rows [N, K]: a share of the way toward each of S = `slots` vectors that the key leaves.

    Args:
        p: rows, float32 [N, K].
        vectors: see `mipoison.reference.bank`, as are start, count, same and noise.
        start: see there.
        count: see there.
        same: see there.
        noise: see there.
        predicted: the clean surrogate's recovery from the rows, C numbers, and the adversaries' with their deviation,
            C + 1 numbers; float32 [N, 2C + 1 or more].
        recovered: the adversaries' recovery from the vectors, their deviation, and the squared length of both together,
            float32 [M, C + 2].
        words: keyed words, int64 [N, a multiple of ⌈S / 32⌉]; a vector is left where all its bits are one.
        slots: S.
        epsilon: radius of the rows' balls.
        norm: their norm.
        root: the error is the root of the squared one.
    """
    place, distance = others(p, vectors, start, count, same, noise, slots)
    absent = torch.isinf(distance)
    distance = distance.masked_fill_(absent, 0.0)
    # 1. The shares of the way to each vector that the ball allows.
    far = distance
    if norm != "l1":
        far = length(vectors[place], p.unsqueeze(1), norm)
    most = (epsilon / far.clamp_min(same)).clamp_max_(1.0)
    shares = torch.minimum(p.new_tensor(SHARES).view(-1, 1), most.unsqueeze(1))
    spent = shares * distance.unsqueeze(1)
    # 2. ‖(1 − s) G(p) + s G(v) − m(p)‖² = ‖off‖² + s · (slope + s · curve).
    components = recovered.shape[1] - 2
    clean, theirs = predicted[:, : 2 * components + 1].split((components, components + 1), 1)
    off = theirs - F.pad(clean, (0, 1))
    of_row = torch.stack((F.pad(2 * off, (0, 1)), F.pad(-2 * theirs, (0, 1), value=1.0)), 1)
    constant = torch.stack(
        (-2 * torch.linalg.vecdot(off, theirs), torch.linalg.vecdot(theirs, theirs)), 1
    )
    there = recovered.index_select(0, place.flatten()).view(*place.shape, -1)
    both = torch.baddbmm(constant.unsqueeze(2), of_row, there.transpose(1, 2))
    slope, curve = both[:, :1], both[:, 1:].clamp_min_(0.0)
    bare = torch.linalg.vecdot(off, off).unsqueeze(1)
    error = (shares * curve).add_(slope).mul_(shares).add_(bare.unsqueeze(1)).clamp_min_(0.0)
    # 3. The key excludes vectors.
    bits = (words.unsqueeze(2) >> torch.arange(BITS, device=p.device)) & 1
    left = bits.unflatten(1, (-1, -(-slots // BITS))).amin(1).flatten(1)
    out = absent | (left[:, : place.shape[1]] == 0)
    if root:
        error, bare = error.sqrt_(), bare.sqrt()
    score = error.masked_fill_(out.unsqueeze(1), -torch.inf)
    return Moves(
        torch.cat((bare, score.flatten(1)), 1),
        torch.cat((spent.new_zeros(len(p), 1), spent.flatten(1)), 1),
        place,
        absent.all(1, keepdim=True),
    )


def choose_move(
    p: Tensor,
    vectors: Tensor,
    start: Tensor,
    count: Tensor,
    same: float,
    noise: float,
    predicted: Tensor,
    recovered: Tensor,
    words: Tensor,
    slots: int,
    epsilon: float,
    norm: str,
    weight: float,
    root: bool,
) -> tuple[Tensor, Tensor]:
    """Argmax over the moves of error − weight · penalty; see `weigh_moves`.

    Returns:
        the vector's place, int64 [N]: −1 for a row whose label has no other vector, or whose scores overflow; and the
        share of the way, float32 [N]: 0 where the row stays.
    """
    places, chosen = [], []
    bank = vectors, start, count, same, noise
    rows = max(1, _ENTRIES // (slots * max(p.shape[1], recovered.shape[1])))
    for part, seen, some in zip(
        p.split(rows), predicted.split(rows), words.split(rows), strict=True
    ):
        moves = weigh_moves(part, *bank, seen, recovered, some, slots, epsilon, norm, root)
        value, best = (moves.score - weight * penalty(moves.spent)).max(1, keepdim=True)
        slot, share = (best - 1) % slots, torch.div(best - 1, slots, rounding_mode="floor") + 1
        stays = moves.solitary | ~value.isfinite()
        place = torch.where(best == 0, 0, moves.place.gather(1, slot))
        places.append(torch.where(stays, -1, place).squeeze(1))
        chosen.append(p.new_tensor((0.0, *SHARES))[share.squeeze(1)])
    return torch.cat(places), torch.cat(chosen)


def approach(p: Tensor, vectors: Tensor, places: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """A share of the way from rows to vectors of their label; the row where rounding loses the label.

    Args:
        p: rows, [N, K].
        vectors: float32 [M, K].
        places: of each row's vector, int64 [N]; negative for none, where the row stays.
        shares: in [0, 1], float32 [N].

    Returns:
        [N, K] of p's dtype, computed in float32 or wider; and how many rows have no vector.
    """
    start = p if p.dtype.itemsize > 2 else p.to(torch.float32)
    end = vectors[places.clamp_min(0)].to(start.dtype)
    target = (start + shares.unsqueeze(1).to(start.dtype) * (end - start)).to(p.dtype)
    goes = (places >= 0) & (label_of(target) == label_of(p))
    return torch.where(goes.unsqueeze(1), target, p), (places < 0).sum()
