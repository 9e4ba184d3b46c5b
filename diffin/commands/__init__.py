"""The commands of `diffin`, a file a kind; `diffin.cli` gathers them."""
