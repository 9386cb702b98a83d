"""Pictures: what a model offers is drawn, and nothing else in the run notices."""

from types import SimpleNamespace

import numpy as np
import pieces
import pytest
import torch
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from taut.errors import UserError
from taut.report import figures
from taut.training.callbacks.history import History
from taut.training.callbacks.pictures import ELBO_DRAWS, Pictures, Subject, _undisturbed, images, latent_plane, mixture


def names(tmp_path):
    return sorted(path.stem for path in (tmp_path / "figures").glob("*.png"))


def test_a_vae_shows_curve_images_and_history(tmp_path, trainer_in, blobs, model_of):
    trainer = trainer_in(History(), Pictures(every_n_epochs=2, count=3))
    model = model_of(blobs)
    trainer.fit(model, datamodule=blobs)
    trainer.test(model, datamodule=blobs, verbose=False)
    expected = ["bound_versus_k_test", "bound_versus_k_val", "history", "images_test", "images_val"]
    assert names(tmp_path) == expected
    for path in (tmp_path / "figures").iterdir():
        with Image.open(path) as image:
            image.verify()


def test_a_mixture_in_the_plane_is_scattered_and_is_no_latent_plane(tmp_path, trainer_in, points, model_of):
    model = model_of(points, "model=mog", "model.components=2", "likelihood=component", "data.binarisation=none")
    assert tuple(model.joint.prior.z_shape) == (2,)
    trainer_in(Pictures(1), epochs=1, precision="64-true").fit(model, datamodule=points)
    assert names(tmp_path) == ["bound_versus_k_val", "mixture_val"]


def test_a_two_dimensional_latent_space_is_a_plane(tmp_path, trainer_in, blobs, model_of):
    trainer_in(Pictures(1), epochs=1).fit(model_of(blobs, "latent_dim=2"), datamodule=blobs)
    assert names(tmp_path) == ["bound_versus_k_val", "images_val", "latent_plane_val"]


LAYERS = ("prior=layers", "prior.sizes=[1,1]", "prior.hidden=[4]")
PLANES = [
    *[("latent_dim=2", f"q={name}") for name in ("diagonal", "flow", "full", "low_rank", "masked", "mixture", "prior")],
    *[("latent_dim=2", "prior=student_t", "q=student_t"), ("model=ppca", "latent_dim=2")],
    *[(*LAYERS, f"q={name}") for name in ("layers", "ladder")],
    *[("latent_dim=2", "prior=uniform", f"q={name}") for name in ("diagonal", "full", "uniform", "prior")],
]


def test_every_q_of_a_continuous_z_is_in_the_planes():
    drawn = {word for words in PLANES for word in words if word.startswith("q=")} | {"q=exact"}
    assert drawn == {f"q={name}" for name in pieces.names("q")} - {"q=bernoulli", "q=categorical", "q=categoricals"}


@pytest.mark.parametrize("words", PLANES, ids=" ".join)
def test_every_q_of_two_coordinates_is_drawn(words, monkeypatch):
    joint, q, _ = pieces.build(*words)
    given = []
    monkeypatch.setattr(figures, "latent_plane", lambda *moments, **more: given.append((*moments, more["colour"])))
    with torch.no_grad():
        latent_plane(Subject(SimpleNamespace(joint=joint, q=q), torch.rand(7, *pieces.X), None, "val", 3, ""))
    ((mean, std, colour),) = given
    assert mean.shape == std.shape == (7, 2)
    assert colour.shape == (7,)
    assert np.isfinite([*mean, *std]).all()
    assert (std > 0).all()


def test_moments_that_have_no_formula_are_those_of_the_draws(monkeypatch):
    joint, q, _ = pieces.build("latent_dim=2", "prior=uniform")
    x = torch.rand(5, *pieces.X)
    given = []
    monkeypatch.setattr(figures, "latent_plane", lambda *moments, **more: given.append(moments))
    with torch.no_grad():
        latent_plane(Subject(SimpleNamespace(joint=joint, q=q), x, None, "val", 3, ""))
        z = q(x).sample((20_000,))
    error = z.std(0).numpy() / ELBO_DRAWS**0.5
    assert (abs(given[0][0] - z.mean(0).numpy()) < 5 * error).all()
    # of 16 draws in a box: 1 / sqrt(2 * 15) of it, and five of those
    assert (abs(given[0][1] / z.std(0).numpy() - 1) < 0.92).all()


def test_validation_pictures_come_ever_more_seldom_and_after_the_last(trainer_in, blobs, model_of, monkeypatch):
    drawn = []
    monkeypatch.setattr("taut.training.callbacks.pictures.DRAWINGS", (lambda subject: drawn.append(epoch()),))
    trainer = trainer_in(Pictures(every_n_epochs=2), epochs=9)

    def epoch():
        return trainer.current_epoch

    trainer.fit(model_of(blobs), datamodule=blobs)
    assert drawn == [1, 3, 7, 9]


def test_pictures_change_neither_generators_nor_modes_nor_weights(tmp_path, trainer_in, blobs, model_of):
    states = []
    for callbacks in ([], [Pictures(every_n_epochs=1)]):
        torch.manual_seed(1)
        model = model_of(blobs)
        trainer_in(*callbacks, folder=tmp_path / str(len(callbacks))).fit(model, datamodule=blobs)
        modes = [module.training for module in model.modules()]
        states.append((torch.get_rng_state(), modes, *model.state_dict().values()))
    assert names(tmp_path / "1")
    (plain_rng, plain_modes, *plain), (rng, modes, *drawn) = states
    assert torch.equal(plain_rng, rng)
    assert plain_modes == modes
    assert all(torch.equal(a, b) for a, b in zip(plain, drawn, strict=True))


def test_every_module_gets_its_own_mode_back():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    model[1].eval()
    with _undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not model[0](torch.ones(2)).requires_grad
    assert [module.training for module in model.modules()] == [True, True, False]
    assert model[0](torch.ones(2)).requires_grad


def test_pictures_are_the_same_every_time(tmp_path, trainer_in, blobs, model_of):
    for seed in (1, 2):
        model = model_of(blobs)
        torch.manual_seed(seed)
        trainer_in(Pictures(1), folder=tmp_path / str(seed), epochs=1).fit(model, datamodule=blobs)
    for first in (tmp_path / "1" / "figures").glob("*.png"):
        assert first.read_bytes() == (tmp_path / "2" / "figures" / first.name).read_bytes()


def subject_of(monkeypatch, drawing, trainer, model, data):
    """The arguments with which ``drawing`` called its figure."""
    calls = []
    figure = {images: "image_rows", mixture: "mixture_scatter", latent_plane: "latent_plane"}[drawing]
    original = getattr(figures, figure)
    monkeypatch.setattr(figures, figure, lambda *args, **more: calls.append((args, more)) or original(*args, **more))
    trainer.fit(model, datamodule=data)
    return calls[-1]


def test_inputs_are_the_binarised_rows_the_model_is_scored_on(monkeypatch, trainer_in, blobs, model_of):
    model, trainer = model_of(blobs), trainer_in(Pictures(1, count=3), epochs=1)
    ((rows,), _) = subject_of(monkeypatch, images, trainer, model, blobs)
    expected = next(iter(blobs.val_dataloader())).x[:3]
    assert torch.equal(torch.from_numpy(rows["inputs"]), expected.double())
    assert {name: len(row) for name, row in rows.items()} == {
        "inputs": 3,
        "reconstructions": 3,
        "prior samples": 3,
    }


def test_the_scatter_gets_the_models_numbers(monkeypatch, trainer_in, points, model_of):
    model = model_of(points, "model=mog", "model.components=3", "data.binarisation=none")
    trainer = trainer_in(Pictures(1), epochs=1, precision="64-true")
    (x, r, weights, means, covariances), more = subject_of(monkeypatch, mixture, trainer, model, points)
    assert x.shape == (20, 2)
    assert r.sum(1) == pytest.approx(1)
    assert weights == pytest.approx(model.joint.prior.probs.detach().numpy())
    assert means == pytest.approx(model.joint.likelihood.means.detach().numpy())
    assert covariances == pytest.approx(model.joint.likelihood.covariances().detach().numpy())
    assert more["columns"] == ("length", "width")


class Recorder(WandbLogger):
    """W&B without W&B: remembers the images."""

    def __init__(self, folder):
        super().__init__(save_dir=folder, experiment=SimpleNamespace(id="0", name="run"))  # type: ignore[arg-type]
        self.images = []

    def log_image(self, key, images, step=None):
        self.images.append((key, images, step))

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params):
        pass


def test_wandb_gets_the_same_pictures(tmp_path, trainer_in, blobs, model_of):
    recorder = Recorder(tmp_path)
    trainer_in(Pictures(1), epochs=1, logger=recorder).fit(model_of(blobs), datamodule=blobs)
    figure = str(tmp_path / "figures" / "images_val.png")
    assert ("pictures/images_val", [figure], 3) in recorder.images


def test_a_full_disk_costs_the_picture_and_not_the_run(tmp_path, trainer_in, blobs, model_of):
    (tmp_path / "figures").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be written"):
        trainer_in(Pictures(1), epochs=1).fit(model_of(blobs), datamodule=blobs)


@pytest.mark.parametrize("settings", [{"every_n_epochs": 0}, {"count": 0}])
def test_settings_are_positive(settings):
    with pytest.raises(UserError, match="must be an integer >= 1, got"):
        Pictures(**settings)
