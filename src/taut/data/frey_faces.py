"""Frey faces."""

from functools import partial
from typing import ClassVar, final

import torch

from taut.data.base import Data, Splits, cut
from taut.data.binarise import Scale
from taut.data.readers.fetch import Remote, obtain
from taut.data.readers.mat import read_mat

_FILE = Remote(
    folder="frey-faces",
    name="frey_rawface.mat",
    urls=("https://cs.nyu.edu/~roweis/data/frey_rawface.mat",),
    read=partial(
        read_mat,
        shapes={"ff": (560, 1965)},
        sha256="13b577eaf5e9447a9742f00145fd4d59ac03384f56b060e8faaeabd1249566e1",
    ),
)


@final
class FreyFaces(Data):
    """1965 frames of one face, 28x20 grey bytes v taken as x = (v + 0.5) / 256 (Frey and Roweis).

    Cut by a seeded permutation into 1565 / 200 / 200, the sizes of Tomczak and Welling (2018). Densities are
    of x: subtract 560 log 256 nats for the density of v.
    """

    name: ClassVar[str] = "frey_faces"
    scale = Scale(levels=256, offset=0.5)

    def load(self) -> Splits:
        (faces,) = obtain(_FILE, self.dir)
        images = torch.from_numpy(faces.T.copy()).reshape(-1, 1, 28, 20)
        return cut(images, val=200, test=200, seed=self.split_seed)
