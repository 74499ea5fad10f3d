"""The reference classifier: accurate, reproducible, trained once, and trained again if its file is damaged."""

import pytest
import torch

from aebench.errors import DamagedFile
from aebench.evaluation.reference_classifier import (
    ConvolutionalClassifier,
    load_reference_classifier,
    obtain_reference_classifier,
    save_reference_classifier,
    train_reference_classifier,
)
from aebench.files import write_sealed

CPU = torch.device("cpu")


def have_equal_weights(one, other):
    weights = other.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())


def test_it_classifies_digits_and_reports_its_accuracy(reference_classifier, digits):
    assert reference_classifier.accuracy > 0.95
    x = digits.test.x()
    features, probabilities = reference_classifier.features(x), reference_classifier.probabilities(x)
    assert features.shape == (len(x), 64)
    assert features.min() >= 0
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(x)))
    assert float((probabilities.argmax(dim=1) == digits.test.labels).float().mean()) == pytest.approx(
        reference_classifier.accuracy
    )


def test_training_is_reproducible_and_restores_global_state(reference_classifier, digits):
    torch.manual_seed(7)
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    assert have_equal_weights(train_reference_classifier(digits), reference_classifier)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_trained_once_and_stored(digits, tmp_path):
    trained = []

    def obtain(provenance="here"):
        return obtain_reference_classifier(
            digits, CPU, tmp_path / "data", provenance, lambda: trained.append(provenance)
        )

    first = obtain()
    folder = tmp_path / "data" / "reference_classifiers"
    (file,) = folder.glob("digits-*")
    loaded = obtain()
    assert trained == ["here"]
    assert have_equal_weights(first, loaded)
    assert loaded.accuracy == first.accuracy
    assert not loaded.training

    whole = file.read_bytes()
    file.write_bytes(_flipped(whole))
    (folder / "other.part").write_bytes(b"of a process that was killed")
    assert have_equal_weights(obtain(), first)
    assert trained == ["here", "here"]
    assert file.read_bytes() == whole
    assert not list(folder.glob("*.part"))

    obtain("elsewhere")
    assert trained == ["here", "here", "elsewhere"]


def _flipped(content):
    middle = len(content) // 2  # in the weights
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [_flipped, lambda content: content[:1000], lambda content: b"", lambda content: content[32:]]
)
def test_a_damaged_file_is_noticed(tmp_path, reference_classifier, damage):
    file = tmp_path / "classifier"
    save_reference_classifier(reference_classifier, file)
    assert have_equal_weights(load_reference_classifier(file), reference_classifier)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DamagedFile, match="classifier is damaged"):
        load_reference_classifier(file)


def test_a_sealed_file_of_something_else_is_noticed(tmp_path):
    write_sealed(tmp_path / "classifier", b"something else")
    with pytest.raises(DamagedFile, match="classifier is not a reference classifier"):
        load_reference_classifier(tmp_path / "classifier")


def test_it_works_without_a_writable_folder(digits, tmp_path):
    (tmp_path / "file").write_text("")
    assert obtain_reference_classifier(digits, CPU, tmp_path / "file", "here").accuracy > 0.95


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 32, 32), (3, 100, 60), (1, 5, 200)])
def test_images_of_any_size(shape):
    reference_classifier = ConvolutionalClassifier(shape, 3).eval()
    assert reference_classifier.features(torch.rand(2, *shape)).shape == (2, 64)
    assert reference_classifier.probabilities(torch.rand(2, *shape)).shape == (2, 3)
