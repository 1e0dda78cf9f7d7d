"""Prompt templates: sentences around class names, of which an ensemble describes a class better than its name."""

from __future__ import annotations

from collections.abc import Sequence

TEMPLATES = (
    "{}",
    "a photo of a {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a close-up photo of a {}.",
    "a cropped photo of the {}.",
    "a blurry photo of a {}.",
    "This is a photo of {}.",  # that of the pipeline zero-shot-image-classification
)


def prompts(names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> list[str]:
    """Sentences for class names, all templates of the first name, then those of the next.

    Underscores in names are read as spaces.

    Args:
        names: of classes, as they are spoken of.
        templates: with `{}` where the name goes.

    Raises:
        ValueError: no names or templates, or a template without `{}`.

    Example:
        >>> prompts(["cat", "mountain_bike"], ["a {}", "the {}"])
        ['a cat', 'the cat', 'a mountain bike', 'the mountain bike']
    """
    if isinstance(templates, str) or not templates:
        raise ValueError(f"templates={templates!r} must be a list of sentences with {{}} where the name goes.")
    if isinstance(names, str) or not len(names):
        raise ValueError(f"names={names!r} must be a list of class names.")
    for template in templates:
        if template.count("{}") != 1 or template.replace("{}", "").count("{"):
            raise ValueError(f"template {template!r} must have {{}} once, where the name goes.")
    spoken = [" ".join(str(name).replace("_", " ").split()) for name in names]
    if not all(spoken):
        raise ValueError("A class name is empty: there is nothing to say of the class.")
    return [template.replace("{}", name) for name in spoken for template in templates]
