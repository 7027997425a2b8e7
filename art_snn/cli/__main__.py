"""`python -m art_snn.cli`, for torchrun."""

from art_snn.cli import main

main(prog_name="art-snn")
