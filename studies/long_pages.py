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
from mipoison.eval.report.glossary import COLUMN_TERMS, as_markdown

HEAD = f"""# Everything that was measured

Gains, costs and distortion of every defense at equal mean l1, under adversaries who train on defended vectors, out of
the CSV files in `studies/numbers`. `make study` measures it all anew (hours; finished cells are not run again).

{as_markdown(*COLUMN_TERMS)}
A section names the adversaries that it has beside those of g3. Seeds 0-2; nothing was tuned on them. Pixels in [0, 1];
image sizes and roles stand in each section; no LPIPS, whose weights are a download. LFP alone changes labels: the share
in its name, lowest leads first. *µs* is a row in one batch of all queries and victims.
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
