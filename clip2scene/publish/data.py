"""Shares of labels and indices for others: keyframe ids with a data card, never the data themselves."""

from pathlib import Path

from clip2scene import layout
from clip2scene.datasets.index import read_index
from clip2scene.errors import InputError
from clip2scene.files import new_directory, read_object, write_json
from clip2scene.publish.card import data_card
from clip2scene.publish.licences import licence_of
from clip2scene.publish.model import write_sums
from clip2scene.run_files import finished, refuse_changed
from clip2scene.runs import Run
from clip2scene.study import Study


def publish_data(study: Study, run: Run, out: Path) -> int:
    """Write the ids of a label subset, or of every split of an index, into a new folder with a data card.

    Args:
        study: The study.
        run: A finished run of the stage ``subset`` or ``index``.
        out: The folder; it must not exist, or be empty.

    Returns:
        The number of keyframe ids.

    Raises:
        InputError: the run is not finished, or the folder holds something.
    """
    folder, config = layout.run_folder(study.config, run), study.configuration(run.variant)
    if not finished(folder):
        raise InputError(
            f"run {run.key} ({run.kind}: {run.title}): is not finished; `clip2scene run {run.key}`"
        )
    section = config.datasets[run.target]
    synthetic = " (synthetic)" if section.synthetic else ""
    name = f"{run.target}{synthetic}, {section.version}"
    if run.kind == "subset":
        refuse_changed(folder / "subset.json")
        content = read_object(folder / "subset.json")
        ids, file = len(content["ids"]), "subset.json"
        title = f"{run.percent:g} % of the labels of {name}"
        text = [
            f"The {ids:,} keyframes whose labels are used when {run.percent:g} % of {section.train_split} "
            f"are drawn by the rule `{run.rule or 'all'}`. `subset.json` names them. A row of the table of "
            "experiments takes the list by the rule `file:ids.txt`.",
            "",
            "Shares under different rules are not the same protocol: `frame_skip` takes every n-th keyframe, "
            "`scene_skip` every n-th scene with all its keyframes.",
        ]
    else:
        index = read_index(folder / "index.parquet", section.root)
        names = sorted({split for splits in index.frames["splits"] for split in splits})
        content = {split: index.split(split).ids for split in names}
        ids, file = len(index), "splits.json"
        title = f"Keyframes of {name} by split"
        counts = ", ".join(f"{split}: {len(listed):,}" for split, listed in content.items())
        text = [
            f"The {ids:,} keyframes of the data set by split, in its own order ({counts}). `splits.json` "
            "names them."
        ]
    terms = licence_of(config, run.target)
    text += ["", f"Ids alone: the data are to be had from their owners. {terms.name} {terms.link}".rstrip()]
    text += ["", f"Run `{run.key}`; `run.json` holds the hashes of what it read."]
    with new_directory(out) as made:
        write_json(made / file, content)
        if run.kind == "subset":
            (made / "ids.txt").write_text("\n".join(content["ids"]) + "\n")
        (made / "run.json").write_bytes((folder / "run.json").read_bytes())
        (made / "README.md").write_text(data_card(title, text, terms, ids, [section.format]))
        write_sums(made)
    return ids
