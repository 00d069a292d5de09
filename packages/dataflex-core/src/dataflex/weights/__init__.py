"""Weights in files and in models: what a checkpoint holds, what a model would save, and whether the two are the same.

``files`` reads the headers of a folder's weight files, ``views`` names a model's tensors as a file does, ``compare``
finds the differences, ``convert`` loads a checkpoint whose tensors have other names or shapes than the model's, and
``verify`` checks a model that ``from_pretrained`` has made.

May touch safetensors, transformers and PEFT; knows no Trainer.
"""
