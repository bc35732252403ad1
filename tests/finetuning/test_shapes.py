"""Two to two hundred classes, grey and 96 pixels through the tables and figures of fine-tuning."""

import pandas as pd
import pytest
from shapes import SHAPES, images_of, zoo_of

from src import plotting, tables
from src.data.loaders import make_loader
from src.models.predict import predict
from src.tables.statistics import without_logits


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tables_and_figures_are_whole(shape):
    images, zoo = images_of(shape), zoo_of(shape)
    tables_of = [without_logits(predict(model, make_loader(images, batch_size=8))) for model in zoo.values()]
    table = tables.finetuning.by_condition(dict(zip(("linear", "full"), tables_of, strict=True)), "vit")
    table = table.assign(dataset="pictures")
    measured = tables.finetuning.accuracies(table)
    top_5 = measured.loc[measured["measure"] == "top-5", "accuracy"]
    assert (top_5 == 1).all() if len(images.classes) <= 5 else top_5.between(0, 1).all()
    history = pd.DataFrame({"epoch": [1, 2], "accuracy": [0.3, 0.4], "val_accuracy": [0.5, 0.6]})
    history = tables.finetuning.by_condition({"linear": history, "full": history}, "vit").assign(dataset="pictures")
    plotting.finetuning.conditions(history, measured).canvas.draw()
    plotting.finetuning.confusion(table[table["condition"] == "full"], classes=images.classes).canvas.draw()
