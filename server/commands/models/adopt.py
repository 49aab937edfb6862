"""`sectorwatch models adopt|torchvision`: write cards for existing networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from server.catalogue import InputForm, ModelCard
from server.catalogue.class_list import read_classes
from server.commands.models.form_options import described, form_of, form_options
from server.commands.models.verbose import echo_fault
from server.commands.options import config_option
from server.domain.errors import SectorwatchError
from server.serving.machine import this_machine
from server.settings import load_settings

if TYPE_CHECKING:
    from server.ensemble.adoption import Activation, Kind

F = TypeVar("F", bound=Callable[..., Any])

_RAW_BOXES = "server.ensemble.building.raw_boxes"
_SHORT = {
    "yolo": f"{_RAW_BOXES}:yolo",
    "yolov5": f"{_RAW_BOXES}:yolov5",
    "yolo-end-to-end": f"{_RAW_BOXES}:yolo_end_to_end",
    "detr": f"{_RAW_BOXES}:detr",
    "detr-sigmoid": f"{_RAW_BOXES}:detr_sigmoid",
}
_OTHER_OUTPUTS = ("logits", "independent_logits", "independent_probabilities")
"""Words that --output took before version 0.3 for what the numbers are."""


def _out(command: F) -> F:
    """Adds --config and --out, the folder of the cards."""
    folder = click.Path(file_okay=False, path_type=Path)
    what = "Folder of your own models [the setting `models_dir`]."
    return config_option(click.option("--out", "models_dir", type=folder, help=what)(command))


@click.command()
@click.argument("dmodels", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--classes",
    "classes_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The class names in the networks' order: a name per line, numbers with names, or JSON.",
)
@click.option(
    "--kind",
    type=click.Choice(("classifier", "detector")),
    help="What the networks are [default: classifier; with --postprocess, detector].",
)
@click.option(
    "--factory",
    default="",
    help="For weights without a network, what makes it: package.module:callable, or file.py:callable of your own.",
)
@click.option(
    "--postprocess",
    default="",
    help="What makes boxes of a raw answer: yolo, yolov5, yolo-end-to-end, detr, detr-sigmoid, "
    "package.module:callable or file.py:callable.",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Load files that can run code: TorchScript, .pt2, pickles, code of your own.",
)
@click.option(
    "--output",
    metavar="KEY",
    help="The part of the answer that counts: a key of a dict, a place in a tuple from 0 [default: the first].",
)
@click.option(
    "--activation",
    type=click.Choice(("softmax", "sigmoid", "none")),
    help="What makes scores of the networks' numbers; none: they are scores [default: what they show; where they may "
    "be two things, it is refused].",
)
@click.option("--probabilities", is_flag=True, help="The networks end in a softmax; the same as --activation none.")
@click.option(
    "--argmax/--scores",
    default=None,
    help="The best class alone is there, or the policy decides by every score [default: --argmax for two classes, of "
    "which one is right].",
)
@form_options
@_out
def adopt(
    dmodels: Path,
    classes_file: Path,
    kind: Kind | None,
    factory: str,
    postprocess: str,
    output: str | None,
    activation: Activation | None,
    models_dir: Path | None,
    config: Path | None,
    *,
    trust: bool,
    probabilities: bool,
    argmax: bool | None,
    **form: Any,
) -> None:
    """Write a card for each network in a FlexServe folder, or for a single file.

    Reads TorchScript, torch.export (.pt2), safetensors, state dicts and pickled modules, with FlexServe's transform
    unless you say what the networks get to see. Asks each about some pictures, in a process that cannot write and has
    bounds of time and memory, and refuses one that cannot be served well. The files stay where they are. Exit code 1 if
    a file cannot be adopted.
    """
    from server.ensemble.adoption import DETECTOR_FORM, FLEXSERVE_FORM, Limits
    from server.ensemble.adoption import adopt as adopted

    if probabilities and (activation not in (None, "none") or output in _OTHER_OUTPUTS):
        raise click.UsageError(f"--probabilities and {activation or output} contradict each other")
    if postprocess and kind == "classifier":
        raise click.UsageError("--postprocess makes boxes, so it is for detectors")
    kind = kind or ("detector" if postprocess else "classifier")
    seen_form = form_of(form, DETECTOR_FORM if kind == "detector" else FLEXSERVE_FORM)
    place = _place(models_dir, config)
    try:
        classes = read_classes(classes_file)
    except SectorwatchError as error:
        raise click.ClickException(error.detail) from error
    available = this_machine().available_bytes
    limits = Limits() if available is None else Limits(memory_bytes=available // 2)
    failed = False
    for file in _files(dmodels):
        try:
            card, path, remarks, code = adopted(
                file,
                classes,
                place,
                kind=kind,
                factory=factory,
                postprocess=_SHORT.get(postprocess, postprocess),
                trusted=trust,
                output=output,
                activation="none" if probabilities else activation,
                argmax=argmax,
                form=seen_form,
                limits=limits,
            )
        except SectorwatchError as error:
            echo_fault(error)
            failed = True
            continue
        what = card.output if card.kind == "classifier" else "boxes"
        click.echo(f"{card.name}: {card.format}, {_counted(card.classes)}, {what}, sha256 {card.sha256}")
        click.echo(f"{card.name} sees {described(card.input)}")
        if card.argmax:
            click.echo(
                f"{card.name} decides itself which class is there (argmax = true; --scores leaves it to policies)"
            )
        if code:
            click.echo(f"{card.name} {code}, which can run code; you trust it, and its card says so (trusted = true)")
        for remark in remarks:
            click.echo(f"warning: {path}: {remark}", err=True)
    if failed:
        raise SystemExit(1)


def _files(dmodels: Path) -> list[Path]:
    """The networks of a folder, or the one file. Raises ClickException if there is none."""
    from server.ensemble.adoption import SUFFIXES

    if dmodels.is_file():
        return [dmodels]
    try:
        listed = sorted(dmodels.iterdir())
    except OSError as error:
        raise click.ClickException(f"{dmodels} cannot be read: {error.strerror}") from error
    files = [
        file for file in listed if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith(".")
    ]
    if not files:
        raise click.ClickException(f"{dmodels} has no networks ({', '.join(SUFFIXES)})")
    return files


def _counted(classes: Sequence[str]) -> str:
    return f"{len(classes)} class{'es' if len(classes) > 1 else ''}"


_classes = click.option(
    "--classes",
    "classes_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The class names of a network that was trained on, in the order of its outputs.",
)
_numbers = click.option(
    "--activation",
    type=click.Choice(("softmax", "sigmoid")),
    help="What makes scores of a classifier's numbers [default: softmax].",
)
_OUTPUTS: dict[str | None, dict[str, str]] = {
    "softmax": {"output": "logits"},
    "sigmoid": {"output": "independent_logits"},
}


@click.command()
@click.argument("architecture")
@click.option(
    "--weights",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The state dict or safetensors [default: PyTorch's download folder, or the network].",
)
@_classes
@_numbers
@form_options
@_out
def torchvision(
    architecture: str,
    file: Path | None,
    classes_file: Path | None,
    models_dir: Path | None,
    config: Path | None,
    **how: Any,
) -> None:
    """Write a card for a classifier or detector of torchvision's, pinned to its weights as they are now.

    With --weights and --classes, for one that was trained on: its head may have any size.
    """
    from server.ensemble.adoption import adopt_torchvision

    if classes_file is not None and file is None:
        raise click.UsageError("--classes is for weights of your own: name them with --weights FILE")
    classes = _read(classes_file)
    card = adopt_torchvision(architecture, _place(models_dir, config), file, classes, changed=_changed(how))
    _echo_named(card)


@click.command()
@click.argument("architecture")
@click.option(
    "--weights",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The safetensors or state dict.",
)
@_classes
@_numbers
@form_options
@_out
def timm(
    architecture: str, file: Path, classes_file: Path | None, models_dir: Path | None, config: Path | None, **how: Any
) -> None:
    """Write a card for a classifier of timm's by name, with your weights: of ImageNet, or of the classes in --classes.

    Needs the package timm (the extra `timm`), also where the model is served.
    """
    from server.ensemble.adoption import adopt_timm

    classes = _read(classes_file)
    _echo_named(adopt_timm(architecture, _place(models_dir, config), file, classes, changed=_changed(how)))


@click.command("huggingface")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_numbers
@form_options
@_out
def hugging_face(folder: Path, models_dir: Path | None, config: Path | None, **how: Any) -> None:
    """Write a card for an image classifier or object detector in a folder of transformers' `save_pretrained`.

    Reads safetensors only, downloads nothing and runs no code of the folder. Needs the package transformers (the extra
    `transformers`), also where the model is served.
    """
    from server.ensemble.adoption import adopt_hugging_face

    _echo_named(adopt_hugging_face(folder, _place(models_dir, config), changed=_changed(how)))


def _read(classes_file: Path | None) -> Sequence[str]:
    return read_classes(classes_file) if classes_file is not None else ()


def _changed(how: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Puts what the user says of input and numbers into the content of a card."""

    def changed(content: dict[str, Any]) -> dict[str, Any]:
        form = form_of(how, msgspec.convert(content["input"], InputForm))
        output = _OUTPUTS.get(how["activation"], {})
        if output and content["kind"] != "classifier":
            raise click.UsageError("--activation is for classifiers")
        return content | output | {"input": form.content}

    return changed


def _echo_named(card: ModelCard) -> None:
    click.echo(f"{card.name}: {card.kind}, {_counted(card.classes)}, sha256 {card.sha256}")
    click.echo(f"{card.name} sees {described(card.input)}")


def _place(models_dir: Path | None, config: Path | None) -> Path:
    place = load_settings(config, models_dir=models_dir).models_dir
    if place is None:
        raise click.UsageError("give --out FOLDER for the cards, or the setting `models_dir`")
    return place
