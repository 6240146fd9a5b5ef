"""HDF5 image: how do the finished values of a shard lie in an HDF5 file, and how are they read without trusting it?

Every series is a dataset of compound rows ``step i8, time f8, walltime f8, value`` at `allogger.record.hdf_path`, which
any HDF5 tool can read. What such a tool need not know lies beside them in the group ``allogger``:

- ``index``: JSON as bytes, with what is known about all series in columns;
- ``blocks``: smallest, largest and mean value of each 1,024 values of the longer series of real numbers;
- ``attrs``: the attributes of single values, where the values of a series do not share them; what a row says holds from
  the value ``row`` of its series on, until the next row of that series;
- ``texts``: the exact UTF-8 (surrogates passed) of texts that HDF5 strings cannot hold; the dataset shows them escaped.

A series of several dtypes or shapes has one dataset for each, and the position of each value in a field ``order``.
What HDF5 has no type for lies there as opaque bytes, its dtype in the attribute ``dtype``, spelt as in a ``.npy`` file.
Values that do not fit into a field of fixed size (*ragged*) have a variable length, and their ``shape`` beside them.
A series with a value that HDF5 cannot hold at all is left out; the index says why.
"""

from __future__ import annotations

from allogger.formats.hdf.builder import ImageBuilder
from allogger.formats.hdf.cells import values_of
from allogger.formats.hdf.converters import converters
from allogger.formats.hdf.reading import ImageDataset, ImageFile
from allogger.formats.hdf.series import SeriesPlan
from allogger.formats.hdf.tables import ATTRS, BLOCKS, FORMAT, INDEX, OWN_GROUP, SIDE_TABLES, TEXTS

__all__ = [
    "ATTRS",
    "BLOCKS",
    "FORMAT",
    "INDEX",
    "OWN_GROUP",
    "SIDE_TABLES",
    "TEXTS",
    "ImageBuilder",
    "ImageDataset",
    "ImageFile",
    "SeriesPlan",
    "converters",
    "values_of",
]
