"""What pre-training on images must refuse: what is given to a run, the error, the culprit, the remedy."""

from __future__ import annotations

import math

import masked_images
import masked_models
import pictures
import tiny
from peft import LoraConfig
from transformers import ViTForMaskedImageModeling, ViTMAEConfig, ViTMAEForPreTraining

TARGET = masked_images.TARGET
PATHS = [f"nowhere/{i}.png" for i in range(9)]


def decoder_that_does_not_fit():
    return ViTForMaskedImageModeling(masked_images.config("vit", encoder_stride=16))


def one_patch():
    return masked_images.painter("vit", patch_size=16, encoder_stride=16)


def oblong():
    return masked_images.painter("swin", image_size=(32, 64), window_size=2)


def cut_patches():
    return masked_images.painter("vit", image_size=18, encoder_stride=4)


def masked_autoencoder():
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    return ViTMAEForPreTraining(ViTMAEConfig(**sizes | decoder, image_size=16, patch_size=4))


BAD_IMAGES = {
    "a file that is not there": (
        {"target": {"image": PATHS}, "settings": {"held_out": 0}}, ValueError,
        "target row 0: there is no file 'nowhere/0.png'", "from that file",
    ),
    "a missing image": (
        {"target": {"image": [*TARGET["image"][:8], None]}, "settings": {"held_out": 0}}, ValueError,
        "target row 8: 'image' is None", "Drop or fill",
    ),
    "numbers that are no pixels": (
        {"target": {"image": [[1.0, 2.0]] * 9}, "settings": {"held_out": 0}}, ValueError,
        "an array of 2 is no image", "H x W",
    ),
    "images in another column": (
        {"target": TARGET.rename_column("image", "scan")}, ValueError, "images in 'scan'", "`image_column='scan'`",
    ),
    "images beside texts": (
        {"source": tiny.domain(9, labelled=False)}, ValueError, "target holds images and source holds text",
        "of one kind",
    ),
    "copies alone": (
        {"target": {"image": [TARGET["image"][0]] * 20}}, ValueError, "only 0 of its 20 rows", "set it to 0",
    ),
    "a share of a stream": (
        {"target": TARGET.to_iterable_dataset()}, ValueError, "whose length is not known", "a number of rows",
    ),
}  # fmt: skip
BAD_PAINTERS = {
    "a text model": (
        {"model": masked_models.masked_model}, ValueError, "This BertForMaskedLM has no decoder for masked images",
        "`AutoModelForMaskedImageModeling`",
    ),
    "a convolutional network": (
        {"model": pictures.resnet}, ValueError, "This ResNetForImageClassification has no decoder",
        "AutoModelForMaskedImageModeling",
    ),
    "a masked autoencoder": (
        {"model": masked_autoencoder}, ValueError, "This ViTMAEForPreTraining has no decoder for masked images",
        "AutoModelForMaskedImageModeling",
    ),
    "a tokenizer": (
        {"processing_class": tiny.tokenizer}, TypeError, "and the data is images", "pass the image processor",
    ),
    "no image processor": (
        {"processing_class": None}, ValueError, "processing_class is missing", "Pass the one that belongs to it",
    ),
    "a processor of other sizes": (
        {"processing_class": lambda: pictures.processor(24)}, ValueError, "makes images of 24 x 24 pixels",
        "set image_size=16",
    ),
    "a decoder that paints other sizes": (
        {"model": decoder_that_does_not_fit}, ValueError, "encoder_stride=16", "paints 64 x 64 pixels",
    ),
    "an image of one patch": (
        {"model": one_patch}, ValueError, "the image is one patch", "needs units of whole patches",
    ),
    "images that are no squares": (
        {"model": oblong}, ValueError, "image_size=[32, 64]", "Take a model of square images",
    ),
    "patches that are cut": (
        {"model": cut_patches}, ValueError, "Images of 18 x 18 pixels are not cut into whole patches of 4 x 4",
        "a multiple of its patch_size",
    ),
    "an adapter and frozen layers": (
        {"peft_config": LoraConfig(), "settings": {"freeze": "first_1"}}, ValueError,
        "The adapter decides what trains", "or the adapter",
    ),
}  # fmt: skip
BAD_IMAGE_SETTINGS = {
    "no unit masked": (
        {"settings": {"image_mask_share": 0}}, ValueError, "image_mask_share=0 must be above 0", "0.6 is usual",
    ),
    "all units masked": (
        {"settings": {"image_mask_share": 1}}, ValueError, "image_mask_share=1 must be", "below 1",
    ),
    "nearly all units masked": (
        {"settings": {"image_mask_share": 0.99, "image_mask_unit": 8}}, ValueError,
        "image_mask_share=0.99 of 4 units", "smaller with image_mask_unit",
    ),
    "a share that is none": (
        {"settings": {"image_mask_share": math.nan}}, ValueError, "image_mask_share=nan", "below 1",
    ),
    "units of half patches": (
        {"settings": {"image_mask_unit": 6}}, ValueError, "image_mask_unit=6", "divide an image of 16 pixels",
    ),
    "units of no pixels": (
        {"settings": {"image_mask_unit": 0}}, ValueError, "image_mask_unit=0", "It counts pixels",
    ),
    "strong augmentation": (
        {"settings": {"augment": "strong"}}, ValueError, "augment='strong' must be 'none' or 'weak'", "or 'weak'",
    ),
    "another size than the model's": (
        {"settings": {"image_size": 32}}, ValueError, "makes images of 32 x 32 pixels", "set image_size=16",
    ),
    "words of images": (
        {"settings": {"mask_probability": 0.3}}, ValueError,
        "mask_probability=0.3 is for text, and target holds images", "Leave it out",
    ),
    "sentences of images": (
        {"settings": {"sentence_contrast": 1.0}}, ValueError, "sentence_contrast=1.0 is for text", "Leave it out",
    ),
    "tokens of images": (
        {"settings": {"max_length": 64}}, ValueError, "max_length=64 is for text", "Leave it out",
    ),
    "images without packs": (
        {"settings": {"packing": False}}, ValueError, "packing=False is for text", "Leave it out",
    ),
    "perplexity of images": (
        {"settings": {"metric_for_best_model": "perplexity"}}, ValueError,
        "metric_for_best_model='perplexity'", "reconstruction_loss",
    ),
    "nothing trains": (
        {"settings": {"trainable": "block:vit.layers.0", "freeze": "first_2"}}, ValueError,
        "leave nothing to train", "Take what is to train out of freeze",
    ),
}  # fmt: skip
# Settings of images, for texts.
BAD_TEXT_SETTINGS = {
    "units of texts": (
        {"image_mask_unit": 32},
        "image_mask_unit=32 is for images, and target holds text",
        "Leave it out",
    ),
    "a share of texts": ({"image_mask_share": 0.5}, "image_mask_share=0.5 is for images", "Leave it out"),
    "cropped texts": ({"augment": "weak"}, "augment='weak' is for images", "Leave it out"),
    "mirrored texts": ({"augment_flip": True}, "augment_flip=True is for images", "Leave it out"),
    "texts of pixels": ({"image_size": 32}, "image_size=32 is for images", "Leave it out"),
    "painted texts": (
        {"metric_for_best_model": "reconstruction_loss"},
        "pre-training on texts measures loss and perpl",
        "Leave it out",
    ),
}
