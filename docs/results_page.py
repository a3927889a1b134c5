"""Takes finished runs of the study into docs/study and writes docs/results.md from what lies there.

    python docs/results_page.py [RUN...]    # runs/study/standard ... runs/study/keys.json runs/study/retrained.json

Of a run its conditions and its summary are kept, not its cells; of docs/keys.py and docs/retrained.py the file. The
page is made of all that lies in docs/study.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from able_section import able
from defenses_table import in_numbers
from kept_runs import KEPT, TITLES, keep, missing, studies_kept
from keys_section import draw_keys, keys_section
from retrained_section import retrained_section
from study_section import section

PAGE = KEPT.parent / "results.md"
DEFENSES = KEPT.parent / "defenses.md"
HEAD = """# The defenses compared

Gains, costs and distortion of every defense at equal mean l1, under adversaries who train on defended vectors. Written
by `docs/results_page.py` out of the JSON in `docs/study`; `make study` runs it all anew (hours; cell by cell: what is
finished is not run again).

*Gain* is 0 where a defense wins nothing and 1 where only the label still leaks. g2: an MLP on the raw defended vectors.
g3: the strongest, on the victims, of wide MLPs on raw and raw+log features (entries below 1e-6 raised to that; another
to 1e-30), their means, nearest neighbours and label only, and of what a section names beside them. *Median* and *worst
decile* are of the per-victim gain under that strongest adversary. *Denoiser*: the gain under an adversary who holds the
undefended answers to their own queries too, counted from their own undefended error; *all*: under the stronger of these
two, counted from the smaller. A dash: for some seed, that adversary makes no more of undefended vectors than of their
labels, and measures no defense, or an older version did not count it. *Identity*: the share of the strongest
adversary's reconstructions that an independent classifier takes for the victim's class. Seeds 0-2, mean ± standard
deviation; nothing was tuned on them. Pixels in [0, 1]; image sizes and roles stand in each section; no LPIPS, whose
weights are a download. *l1* is what was realised on the victims, *largest* its maximum, *unchanged* the share of
victims served as they were. LFP alone changes labels: the share in its name, lowest leads first.
*µs* is a row in one batch of all queries and victims, one thread.
"""


def write_between(page: Path, start: str, end: str, text: str) -> None:
    """Replaces what stands between two marks."""
    before, rest = page.read_text().split(start)
    _, after = rest.split(end)
    page.write_text(f"{before}{start}\n{text}{end}{after}")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        if path.endswith(".json"):
            shutil.copy(path, KEPT)
        else:
            keep(Path(path))
    studies = studies_kept()
    sections = [able(studies, TITLES), *(section(name, kept) for name, kept in studies.items())]
    if lacking := missing():
        sections.insert(0, f"\n**Not run yet:** {', '.join(lacking)}.\n")
    write_between(
        DEFENSES, "<!-- numbers: docs/results_page.py -->", "<!-- end -->", in_numbers(studies)
    )
    retrained = KEPT / "retrained.json"
    if retrained.exists():
        sections.append(retrained_section(json.loads(retrained.read_text())))
    keys = KEPT / "keys.json"
    if keys.exists():
        kept = json.loads(keys.read_text())
        draw_keys(kept, KEPT / "keys.png")
        sections.append(keys_section(kept))
    PAGE.write_text(HEAD + "".join(sections))
