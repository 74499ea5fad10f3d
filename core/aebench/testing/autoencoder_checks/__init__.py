"""The checks of a model, one module for each kind of requirement; `aebench.testing.autoencoders` lists them."""
