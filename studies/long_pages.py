"""Writes the long pages: everything that the studies measured, and the leaderboard.

python studies/long_pages.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from able_section import able
from kept import NUMBERS, TITLES, studies_kept
from keys_section import keys_section
from retrained_section import retrained_section
from study_section import section

from mipoison.eval.report import leaderboard

HEAD = """# Everything that was measured

Gains, costs and distortion of every defense at equal mean l1, under adversaries who train on defended vectors, out of
the CSV files in `studies/numbers`. `make study` measures it all anew (hours; finished cells are not run again).

*Gain* is 0 where a defense wins nothing and 1 where only the label still leaks. g2: an MLP on the raw defended vectors.
g3: the strongest, on the victims, of wide MLPs on raw and raw+log features (entries below 1e-6 raised to that; another
to 1e-30), their means, nearest neighbours and label only, and of what a section names beside them. *Median* and *worst
decile* are of the per-victim gain under that strongest adversary. *Denoiser*: the gain under an adversary who holds the
undefended answers to their own queries too, counted from their own undefended error; *all*: under the stronger of these
two, counted from the smaller. A dash: for some seed, that adversary makes no more of undefended vectors than of their
labels, so its gain is undefined. *Identity*: the share of the strongest
adversary's reconstructions that an independent classifier takes for the victim's class. Seeds 0-2, mean ± standard
deviation; nothing was tuned on them. Pixels in [0, 1]; image sizes and roles stand in each section; no LPIPS, whose
weights are a download. *l1* is what was realised on the victims, *largest* its maximum, *unchanged* the share of
victims served as they were. LFP alone changes labels: the share in its name, lowest leads first.
*µs* is a row in one batch of all queries and victims, one thread.
"""


def write(folder: Path) -> None:
    """Writes all of the pages."""
    studies = studies_kept()
    sections = [able(studies, TITLES), *(section(name, kept) for name, kept in studies.items())]
    sections += [retrained_section(), keys_section()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results-in-full.md").write_text(HEAD + "".join(sections))
    leaderboard.write_page(NUMBERS, folder / leaderboard.PAGE)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
