"""Data sets as three splits of uint8 images. Start in `datasets`, which has a class for each choice of the `dataset` group.

`download` fetches published files, `archives` and `datafiles` read them, `imagechecks` validates the arrays, `splits` cuts the
validation split, and `augment` is what training does to its images.
"""
