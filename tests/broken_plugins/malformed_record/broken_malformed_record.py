"""Its record lacks a title and has an unknown field."""

from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl


@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="malformed", summary="s", build=Autoencoder, colour="blue")]
