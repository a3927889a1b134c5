"""The command line of studies with a trial a seed."""

import csv

from trials import run_trials


def of_digits(seed):
    return [{"data": "digits", "seed": seed, "gain": 0.5}]


def of_faces(folder, seed):
    return [{"data": "faces", "seed": seed, "gain": len(folder.name)}]


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_of_faces_stay_without_their_folder(tmp_path, monkeypatch):
    file = tmp_path / "numbers.csv"

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["study.py", "--seeds", "0", "1", *arguments])
        run_trials([of_digits], "A study.", file, faces=[of_faces])

    run("--lfw", str(tmp_path / "four"))
    assert [(row["data"], row["seed"], row["gain"]) for row in rows_of(file)] == [
        ("digits", "0", "0.5"),
        ("digits", "1", "0.5"),
        ("faces", "0", "4"),
        ("faces", "1", "4"),
    ]
    # What was measured on another day says so after the others were measured anew.
    file.write_text(file.read_text().replace(rows_of(file)[2]["date"], "2026-01-02"))
    run()
    assert [row["gain"] for row in rows_of(file)] == ["0.5", "0.5", "4", "4"]
    days = [row["date"] for row in rows_of(file)]
    assert "2026-01-02" not in days[:2]
    assert days[2:] == ["2026-01-02"] * 2
